"""Read a page of a package index, in either form, to the JSON form (PEP 691)."""

import json
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

_METADATA = ("data-core-metadata", "data-dist-info-metadata")


def read_page(data: bytes, content_type: str, url: str) -> dict[str, Any]:
    """Give a page in its JSON form; its links are whole addresses of the web.

    Raises:
        ValueError: it is no page of an index.
    """
    if "json" in content_type:
        page = json.loads(data)
        if not isinstance(page, dict) or not isinstance(page.get("files"), list):
            raise ValueError("a page of the index has no list of files")
    else:
        reader = _Reader(url)
        reader.feed(data.decode("utf-8", "replace"))
        reader.close()
        name = urlsplit(url).path.rstrip("/").rpartition("/")[2]
        page = {"meta": {"api-version": "1.0"}, "name": name, "files": reader.files}
    files = []
    for file in page["files"]:
        whole = urldefrag(urljoin(url, str(file["url"]))).url
        if whole.startswith(("http://", "https://")) and "/" not in str(file["filename"]):
            files.append({**file, "url": whole})
    return {**page, "files": files}


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._base = url
        self.files: list[dict[str, Any]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        link = facts.get("href")
        if not link:
            return
        if tag == "base":
            self._base = urljoin(self._base, link)
        elif tag == "a":
            whole, fragment = urldefrag(urljoin(self._base, link))
            filename = unquote(urlsplit(whole).path.rpartition("/")[2])
            file: dict[str, Any] = {
                "filename": filename,
                "url": whole,
                "hashes": _read_hash(fragment),
            }
            if facts.get("data-requires-python"):
                file["requires-python"] = facts["data-requires-python"]
            if "data-yanked" in facts:
                file["yanked"] = facts["data-yanked"] or True
            told = next((facts[name] for name in _METADATA if name in facts), None)
            if told:
                file["core-metadata"] = _read_hash(told) or True
            if filename:
                self.files.append(file)


def _read_hash(text: str | None) -> dict[str, str]:
    kind, equals, value = (text or "").partition("=")
    return {kind: value} if equals and kind.isalnum() and value.isalnum() else {}
