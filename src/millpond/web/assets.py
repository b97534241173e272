"""The portal's scripts, styles and icons: their names hold a digest, so browsers keep them."""

import json
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response

from millpond.ground.errors import NotFoundError
from millpond.web.calls import open_route

_ONE_YEAR = "public, max-age=31536000, immutable"


class Assets:
    """What the front end's build has left in a folder."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest; a folder without one holds no portal."""
        self._folder = folder
        manifest = folder / "manifest.json"
        self.is_there = manifest.is_file()
        self._names: dict[str, str] = json.loads(manifest.read_text()) if self.is_there else {}
        self._files = (
            frozenset(path.name for path in folder.iterdir()) if self.is_there else frozenset()
        )

    def url(self, name: str) -> str:
        """Give the address of an asset by its plain name, such as ``portal.js``.

        Raises:
            KeyError: the build has made no such asset.
        """
        return f"/static/{self._names[name]}"

    def find(self, name: str, *, packed: bool) -> tuple[Path, bool]:
        """Find a file, and tell whether it is the gzipped one.

        Raises:
            NotFoundError: there is none of that name.
        """
        if name not in self._files or name.endswith(".gz"):
            raise NotFoundError(
                "There is no such asset.", next_step="Load the page anew: it names those of now."
            )
        if packed and f"{name}.gz" in self._files:
            return self._folder / f"{name}.gz", True
        return self._folder / name, False


def routes(assets: Assets) -> APIRouter:
    """Give the route that serves them."""
    router = APIRouter()

    @router.get("/static/{name}", response_class=FileResponse, **open_route())
    def get_asset(request: Request, name: str) -> Response:
        """Serve an asset; a name never changes its content."""
        accepts = "gzip" in request.headers.get("accept-encoding", "")
        path, is_packed = assets.find(name, packed=accepts)
        headers = {
            "Cache-Control": _ONE_YEAR,
            "Content-Security-Policy": "default-src 'self'",
            "Vary": "Accept-Encoding",
        }
        if is_packed:
            headers["Content-Encoding"] = "gzip"
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return FileResponse(path, headers=headers, media_type=kind)

    return router
