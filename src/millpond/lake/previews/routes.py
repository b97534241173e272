"""REST of looking into files."""

from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from millpond.ground.errors import NotFoundError
from millpond.lake import actions
from millpond.lake.manifests import ManifestCache
from millpond.lake.paths import read_path
from millpond.lake.previews.looking import image_type, look_at
from millpond.lake.previews.values import Preview
from millpond.lake.values import FileEntry, object_key
from millpond.people.actions import open_project
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.frame import Call, CallIn, needs

Number = Annotated[int, Path(ge=1)]
FilePath = Annotated[str, Query(description="As the list of files gives it.")]
PathBytes = Annotated[str | None, Query(description="As the list gives it.")]


def routes(objects: ObjectStore, manifests: ManifestCache) -> APIRouter:
    """Make the routes on an object store."""
    router = APIRouter(
        prefix="/projects/{project}/datasets/{name}/versions/{number}", tags=["datasets"]
    )

    def find(call: Call, project: str, address: str, raw: bytes) -> tuple[str, FileEntry]:
        def look_up(tx: Transaction) -> tuple[str, str]:
            project_id = open_project(tx, call.actor, project, "dataset.read").id
            return project_id, actions.get_version(tx, project_id, address).manifest_key

        project_id, key = call.read(look_up)
        return project_id, manifests.find(key, raw)

    @router.get("/content/preview", **needs("dataset.read"))
    def show_file(
        call: CallIn, project: str, name: str, number: Number, path: FilePath,
        path_bytes: PathBytes = None,
    ) -> Preview:  # fmt: skip
        """Show the beginning of a file: a text, the first rows of a table, or what image it is."""
        raw = read_path(path, path_bytes)
        return look_at(objects, *find(call, project, f"{name}@{number}", raw))

    @router.get("/content/image", response_class=StreamingResponse, **needs("dataset.read"))
    def show_image(
        call: CallIn, project: str, name: str, number: Number, path: FilePath,
        path_bytes: PathBytes = None,
    ) -> StreamingResponse:  # fmt: skip
        """Send an image of a kind that browsers show, under its type; any other file is none."""
        raw = read_path(path, path_bytes)
        project_id, entry = find(call, project, f"{name}@{number}", raw)
        media_type = image_type(objects, project_id, entry)
        if not media_type:
            raise NotFoundError(
                "This file is no image that can be shown.", next_step="Download it instead."
            )
        headers = {
            "Content-Length": str(entry.size),
            "ETag": f'"{entry.digest}"',
            "Cache-Control": "private, max-age=3600",
        }
        pieces = objects.stream(object_key(project_id, entry.digest))
        return StreamingResponse(pieces, headers=headers, media_type=media_type)

    return router
