"""Look into what a run left, as the lake looks into files; its report has a policy of its own."""

import base64
import hashlib
import json
import re

from millpond.lake.previews import looking
from millpond.lake.previews.values import Preview
from millpond.lake.values import FileEntry
from millpond.pipelines.outputs.values import OutputFile
from millpond.storage.port import ObjectStore

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


def look_at_output(objects: ObjectStore, found: OutputFile) -> Preview:
    """Show the beginning of a file: an image, a table, a text, or why nothing."""
    return looking.look_at_object(objects, found.key, _entry(found))


def image_type_of(objects: ObjectStore, found: OutputFile) -> str:
    """Give the type under which a file may be shown as an image; empty when it is none."""
    return looking.image_type_of(objects, found.key, _entry(found))


def _entry(found: OutputFile) -> FileEntry:
    return FileEntry(found.path, found.digest, found.size, found.path_bytes)


def policy_of_report(page: bytes) -> str:
    """Write the policy under which a browser shows a report: its one style, and nothing else.

    The style stands in front of everything that comes from users, so the first one is ours.
    """
    style = _STYLE.search(page)
    allowed = "'none'"
    if style is not None:
        digest = base64.b64encode(hashlib.sha256(style.group(1)).digest()).decode()
        allowed = f"'sha256-{digest}'"
    return (
        f"default-src 'none'; style-src {allowed}; img-src data:; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'; sandbox"
    )


def text_of(preview: Preview) -> str:
    """Give a preview's text to be read: JSON over several lines, where it is whole."""
    if preview.kind != "text" or preview.is_cut or not preview.path.lower().endswith(".json"):
        return preview.text
    try:
        return json.dumps(json.loads(preview.text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return preview.text
