"""The host's package cache: nodes ask it for pages of the index and for files, never the index.

Pages are kept for a while and used longer while the index is away; files are kept by their hash.
So that a node needs no way to the Internet, and five nodes fetch a file once.
"""

import hashlib
import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
from fastapi import APIRouter
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, JSONResponse

from millpond.engine.cluster.cache import Cache, DigestError
from millpond.environments.indexes import Index, page_url
from millpond.environments.listings import read_page
from millpond.ground.errors import BusyError, NotFoundError

PATH = "/packages"
_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,200}[a-z0-9])?")
_PAGE_BYTES_MOST, _PAGE_SECONDS, _SECONDS = 128 << 20, 600.0, 60.0
_PIECE = 1 << 20
_PAGES_MOST = 4000
_TOLD = ("filename", "hashes", "requires-python", "yanked", "size", "upload-time")


class PackageCache:
    """Pages and files of the package indexes. Safe to share between threads."""

    def __init__(
        self,
        folder: Path,
        indexes: tuple[Index, ...],
        *,
        most_bytes: int,
        page_seconds: float = _PAGE_SECONDS,
        pages_most: int = _PAGES_MOST,
    ) -> None:
        """Ask these indexes.

        Args:
            folder: of this cache alone.
            indexes: in their order.
            most_bytes: of files that are kept.
            page_seconds: how old a page may grow while the index answers.
            pages_most: how many pages are kept: a node may ask for any name.
        """
        self._page_seconds, self._pages_most = page_seconds, pages_most
        self._indexes = indexes
        self._accounts = {urlsplit(each.url).netloc: each.account for each in indexes}
        self._pages = folder / "pages"
        self._pages.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._files = Cache(folder / "files", most_bytes)
        self._client = httpx.Client(
            follow_redirects=True, timeout=_SECONDS, verify=ssl.create_default_context()
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def page(self, name: str) -> dict[str, Any]:
        """Give the files of a package that any index has, with links that lead here.

        Raises:
            NotFoundError: no index has that package.
            BusyError: an index can't be reached and there is no older page.
        """
        files = [
            {
                **{key: file[key] for key in _TOLD if key in file},
                "url": f"../../files/{name}/{quote(file['filename'])}",
            }
            for file in self._read(name)
        ]
        if not files:
            raise NotFoundError(
                f"No package index has {name!r}.",
                next_step="Check the name, and the index that the server is set up with.",
            )
        return {"meta": {"api-version": "1.0"}, "name": name, "files": files}

    def open(self, name: str, filename: str) -> int:
        """Open a file for reading, fetching it when it is not held. The caller closes it.

        Raises:
            NotFoundError: no index has that file.
            BusyError: the index can't be reached, or it gave other bytes than it promised.
        """
        found = next((file for file in self._read(name) if file["filename"] == filename), None)
        if found is None:
            raise NotFoundError(
                f"No package index has the file {filename!r}.",
                next_step="Make a new version of the environment: the file was taken back.",
            )
        digest = str(found["hashes"]["sha256"]).lower()
        handle = self._files.open(digest)
        if handle is not None:
            return handle
        try:
            return self._files.make(digest, None, lambda: self._fetch(str(found["url"])))
        except httpx.HTTPError as fault:
            raise _away(fault) from fault
        except DigestError as fault:
            raise BusyError(
                f"The package index gave other bytes than it promised for {filename}.",
                next_step="Try again; if it goes on, look at the index.",
            ) from fault

    def _fetch(self, url: str) -> Iterator[bytes]:
        request = self._client.build_request("GET", url, headers={"Accept-Encoding": "identity"})
        with closing(self._client.send(request, stream=True, auth=self._of(url))) as got:
            got.raise_for_status()
            yield from got.iter_raw(_PIECE)

    def _read(self, name: str) -> list[dict[str, Any]]:
        """Give the files of all indexes that can be checked by hash, each file once."""
        if not _NAME.fullmatch(name):
            return []
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for index in self._indexes:
            for file in self._read_one(index, name):
                digest = str((file.get("hashes") or {}).get("sha256") or "")
                if re.fullmatch("[0-9a-fA-F]{64}", digest):
                    found.setdefault((str(file["filename"]), digest), file)
        return list(found.values())

    def _read_one(self, index: Index, name: str) -> list[dict[str, Any]]:
        url = page_url(index, name)
        kept = self._pages / hashlib.sha256(url.encode()).hexdigest()
        with suppress(OSError, ValueError):
            if time.time() - kept.stat().st_mtime < self._page_seconds:
                return list(json.loads(kept.read_bytes()))
        try:
            files = self._ask(url)
        except (httpx.HTTPError, ValueError) as fault:
            with suppress(OSError, ValueError):
                return list(json.loads(kept.read_bytes()))
            raise _away(fault) from fault
        making = kept.with_name(f".{uuid4().hex}")
        making.write_text(json.dumps(files))
        making.replace(kept)
        self._drop_old_pages()
        return files

    def _drop_old_pages(self) -> None:
        """Drop the oldest half of the pages when there are too many."""
        pages = [path for path in self._pages.iterdir() if not path.name.startswith(".")]
        if len(pages) > self._pages_most:
            pages.sort(key=_age)
            for page in pages[: len(pages) // 2]:
                page.unlink(missing_ok=True)

    def _ask(self, url: str) -> list[dict[str, Any]]:
        headers = {"Accept": _ACCEPT}
        with self._client.stream("GET", url, headers=headers, auth=self._of(url)) as got:
            if got.status_code == httpx.codes.NOT_FOUND:
                return []
            got.raise_for_status()
            data = bytearray()
            for piece in got.iter_bytes(_PIECE):
                data += piece
                if len(data) > _PAGE_BYTES_MOST:
                    raise ValueError("a page of the index is too long")
        page = read_page(bytes(data), got.headers.get("content-type", ""), str(got.url))
        return list(page["files"])

    def _of(self, url: str) -> tuple[str, str] | None:
        return self._accounts.get(urlsplit(url).netloc)


def _age(page: Path) -> float:
    try:
        return page.stat().st_mtime
    except FileNotFoundError:  # Dropped by another thread meanwhile.
        return 0.0


def _away(fault: Exception) -> BusyError:
    return BusyError(
        f"The package index can't be reached: {fault or type(fault).__name__}.",
        next_step="Check the network and the index that the server is set up with.",
        retry_after_seconds=30.0,
    )


def routes(cache: PackageCache) -> APIRouter:
    """Give the routes, for the door alone: whoever comes in there is a node."""
    router = APIRouter(prefix=PATH)

    @router.get("/simple/{name}/")
    def get_page(name: str) -> JSONResponse:
        """List the files of a package."""
        return JSONResponse(cache.page(name), media_type=_JSON)

    @router.head("/files/{name}/{filename}")
    @router.get("/files/{name}/{filename}")
    def get_file(name: str, filename: str) -> FileResponse:
        """Give a file, or ranges of it."""
        handle = cache.open(name, filename)
        return FileResponse(
            f"/proc/self/fd/{handle}",
            media_type="application/octet-stream",
            stat_result=os.fstat(handle),
            background=BackgroundTask(os.close, handle),
        )

    return router
