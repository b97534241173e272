"""Look into a file of a version, whatever kind it is."""

from dataclasses import replace

from millpond.lake.previews import parquet, rules
from millpond.lake.previews.values import (
    IMAGE_BYTES,
    SVG_BYTES,
    TABLE_BYTES,
    TEXT_BYTES,
    Preview,
    PreviewColumn,
)
from millpond.lake.values import FileEntry, object_key
from millpond.storage.port import ObjectStore

_HEAD_BYTES = 4096
_SVG = "image/svg+xml"


def look_at(objects: ObjectStore, project_id: str, entry: FileEntry) -> Preview:
    """Show the beginning of a file: an image, a table, a text, or why nothing.

    Cost: reads at most 1 MiB, of a Parquet file at most 64 MiB.
    """
    return look_at_object(objects, object_key(project_id, entry.digest), entry)


def look_at_object(objects: ObjectStore, key: str, entry: FileEntry) -> Preview:
    """Show the beginning of a file that lies under a key of its own, as ``look_at`` does."""
    preview = Preview(entry.path, entry.size, entry.digest)
    if not entry.size:
        return replace(preview, note="The file is empty.")
    wanted = TABLE_BYTES if rules.may_be_table(entry.path) else TEXT_BYTES
    head = objects.get(key, 0, wanted)
    if media_type := rules.image_type(head):
        if entry.size > IMAGE_BYTES:
            note = f"The image has more than {IMAGE_BYTES >> 20} MiB; download it."
            return replace(preview, note=note)
        return replace(preview, kind="image", media_type=media_type)
    if rules.is_parquet(head, objects.get(key, max(0, entry.size - 4), 4)):
        return _look_at_parquet(objects, key, preview)
    if entry.size <= SVG_BYTES and rules.is_svg(entry.path, head):
        return replace(preview, kind="image", media_type=_SVG)
    return rules.show(preview, head)


def image_type(objects: ObjectStore, project_id: str, entry: FileEntry) -> str:
    """Give the type under which a file may be shown as an image; empty when it is none."""
    return image_type_of(objects, object_key(project_id, entry.digest), entry)


def image_type_of(objects: ObjectStore, key: str, entry: FileEntry) -> str:
    """Give the type under which an object may be shown as an image; empty when it is none."""
    if not 0 < entry.size <= IMAGE_BYTES:
        return ""
    head = objects.get(key, 0, min(entry.size, _HEAD_BYTES))
    if entry.size <= SVG_BYTES and rules.is_svg(entry.path, head):
        return _SVG
    return rules.image_type(head)


def _look_at_parquet(objects: ObjectStore, key: str, preview: Preview) -> Preview:
    found = parquet.look(lambda start, length: objects.get(key, start, length), preview.size_bytes)
    if "fault" in found:
        return replace(preview, note=f"This Parquet file can't be shown: {found['fault']}.")
    columns = tuple(PreviewColumn(name, kind) for name, kind in found["columns"])
    rows = tuple(tuple(row) for row in found["rows"])
    count, column_count = int(found["row_count"]), int(found["column_count"])
    is_cut = count > len(rows) or column_count > len(columns)
    return replace(
        preview,
        kind="table",
        columns=columns,
        rows=rows,
        row_count=count,
        column_count=column_count,
        is_cut=is_cut,
    )
