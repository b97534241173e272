"""Pages of datasets: list, upload, one version with its folders, one file."""

import shlex
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query
from fastapi.responses import HTMLResponse, Response

from millpond.lake import actions
from millpond.lake.browsing import Browser
from millpond.lake.manifests import ManifestCache
from millpond.lake.paths import read_path
from millpond.lake.previews.looking import look_at
from millpond.lake.rules import show_path
from millpond.lake.uploads import actions as uploads
from millpond.lake.uploads.parts import drop_parts
from millpond.lake.values import DatasetVersion, LakeLimits, encode_path
from millpond.people.actions import open_project
from millpond.storage.database import Transaction
from millpond.storage.port import ObjectStore
from millpond.web.calls import PageIn
from millpond.web.portal import NavItem, Portal, Visit, VisitIn, page

NAV = (NavItem("Datasets", "/projects/{project}/datasets", "database", "dataset.read", order=20),)

_LIST = "/projects/{project}/datasets"
_ONE = _LIST + "/{name}"
_VERSION = _ONE + "/versions/{number}"
_VERSIONS_SHOWN = 20
_UNFINISHED_SHOWN = 50

Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
Search = Annotated[str, Query(max_length=200)]
FilePath = Annotated[str, Query(max_length=10_000)]
PathBytes = Annotated[str | None, Query(max_length=10_000)]


@dataclass(frozen=True)
class Crumb:
    """One folder on the way to where a visitor stands.

    Attributes:
        query: what leads there, to be put after the page's address.
    """

    name: str
    query: str


def pages(portal: Portal, objects: ObjectStore, limits: LakeLimits) -> APIRouter:
    """Make the pages on an object store."""
    router = APIRouter()
    manifests = ManifestCache(objects)
    _add_list(router, portal)
    _add_uploading(router, portal, objects, limits)
    _add_version(router, portal, Browser(manifests))
    _add_versions(router, portal)
    _add_files(router, portal, objects, manifests)
    return router


def _add_list(router: APIRouter, portal: Portal) -> None:
    @router.get(_LIST, **page("dataset.read"))
    def show_datasets(
        visit: VisitIn, project: str, asked: PageIn, search: Search = ""
    ) -> HTMLResponse:
        """List the datasets by name."""
        found = visit.read(
            lambda tx: actions.list_datasets(
                tx,
                visit.actor,
                open_project(tx, visit.actor, project, "dataset.read").id,
                search=search,
                cursor=asked.cursor,
                limit=asked.limit,
            )
        )
        return portal.render(visit, "lake/list.html", found=found, search=search)


def _add_uploading(
    router: APIRouter, portal: Portal, objects: ObjectStore, limits: LakeLimits
) -> None:
    @router.get(_LIST + "/new", **page("dataset.write"))
    def show_new(visit: VisitIn, project: str) -> HTMLResponse:
        """Show where files are dropped to become a new dataset."""
        return show(visit, project, None)

    @router.get(_ONE + "/upload", **page("dataset.write"))
    def show_upload(visit: VisitIn, project: str, name: str) -> HTMLResponse:
        """Show where files are dropped to become a dataset's next version."""
        return show(visit, project, name)

    def show(visit: Visit, project: str, name: str | None) -> HTMLResponse:
        def look(tx: Transaction) -> dict[str, object]:
            project_id = open_project(tx, visit.actor, project, "dataset.write").id
            unfinished = uploads.list_uploads(
                tx, visit.actor, project_id, is_finished=False, limit=_UNFINISHED_SHOWN
            )
            known = None if name is None else actions.get_dataset(tx, visit.actor, project_id, name)
            return {"unfinished": unfinished, "dataset": known}

        facts = visit.read(look)
        return portal.render(visit, "lake/upload.html", 200, limits=limits, **facts)

    @router.post(_LIST + "/new/forget", **page("dataset.write"))
    def forget_uploads(visit: VisitIn, project: str) -> Response:
        """Give up the visitor's uploads that were interrupted."""

        def forget(tx: Transaction) -> list[str]:
            project_id = open_project(tx, visit.actor, project, "dataset.write").id
            return uploads.remove_unfinished(tx, visit.actor, project_id)

        drop_parts(objects, visit.change(forget))
        return portal.go(visit, f"/projects/{project}/datasets/new", "They are given up.")

    @router.post(_ONE + "/hide", **page("dataset.write"))
    def hide_dataset(visit: VisitIn, project: str, name: str) -> Response:
        """Hide a dataset."""
        visit.change(
            lambda tx: actions.hide_dataset(
                tx, visit.actor, open_project(tx, visit.actor, project, "dataset.write").id, name
            )
        )
        return portal.go(visit, f"/projects/{project}/datasets", f"{name} is hidden.")


def _add_version(router: APIRouter, portal: Portal, browser: Browser) -> None:
    @router.get(_ONE, **page("dataset.read"))
    def show_dataset(
        visit: VisitIn, project: str, name: str, asked: PageIn, path: FilePath = "",
        path_bytes: PathBytes = None, search: Search = "",
    ) -> HTMLResponse:  # fmt: skip
        """Show a dataset: its versions, and what the newest one holds."""
        return show(visit, (project, name, None), asked, read_path(path, path_bytes), search)

    @router.get(_VERSION, **page("dataset.read"))
    def show_version(
        visit: VisitIn, project: str, name: str, number: Number, asked: PageIn,
        path: FilePath = "", path_bytes: PathBytes = None, search: Search = "",
    ) -> HTMLResponse:  # fmt: skip
        """Show what a version holds."""
        return show(visit, (project, name, number), asked, read_path(path, path_bytes), search)

    def show(
        visit: Visit, place: tuple[str, str, int | None], asked: PageIn, folder: bytes, search: str
    ) -> HTMLResponse:
        project, name, number = place

        def look(tx: Transaction) -> dict[str, object]:
            project_id = open_project(tx, visit.actor, project, "dataset.read").id
            known = actions.get_dataset(tx, visit.actor, project_id, name)
            versions = actions.list_versions(
                tx, visit.actor, project_id, name, limit=_VERSIONS_SHOWN
            )
            address = f"{name}@{number or known.newest}"
            version = actions.get_version(tx, project_id, address)
            return {"dataset": known, "versions": versions, "shown": version}

        facts = visit.read(look)
        version = facts["shown"]
        assert isinstance(version, DatasetVersion)  # noqa: S101 - as it was put in above.
        found = browser.list_folder(version.manifest_key, folder, search, asked.cursor, asked.limit)
        return portal.render(
            visit,
            "lake/version.html",
            200,
            found=found,
            crumbs_of=_crumbs(folder),
            folder=show_path(folder),
            search=search,
            number=number,
            **facts,
        )


def _add_versions(router: APIRouter, portal: Portal) -> None:
    @router.get(_ONE + "/versions", **page("dataset.read"))
    def show_versions(visit: VisitIn, project: str, name: str, asked: PageIn) -> HTMLResponse:
        """List all versions of a dataset, newest first."""
        found = visit.read(
            lambda tx: actions.list_versions(
                tx,
                visit.actor,
                open_project(tx, visit.actor, project, "dataset.read").id,
                name,
                cursor=asked.cursor,
                limit=asked.limit,
            )
        )
        return portal.render(visit, "lake/versions.html", found=found, name=name)


def _add_files(
    router: APIRouter, portal: Portal, objects: ObjectStore, manifests: ManifestCache
) -> None:
    @router.get(_VERSION + "/files", **page("dataset.read"))
    def show_file(
        visit: VisitIn, project: str, name: str, number: Number, path: FilePath,
        path_bytes: PathBytes = None,
    ) -> HTMLResponse:  # fmt: skip
        """Show the beginning of a file."""
        raw = read_path(path, path_bytes)

        def look(tx: Transaction) -> tuple[str, DatasetVersion]:
            project_id = open_project(tx, visit.actor, project, "dataset.read").id
            return project_id, actions.get_version(tx, project_id, f"{name}@{number}")

        project_id, version = visit.read(look)
        entry = manifests.find(version.manifest_key, raw)
        return portal.render(
            visit,
            "lake/file.html",
            shown=version,
            preview=look_at(objects, project_id, entry),
            crumbs_of=_crumbs(raw.rpartition(b"/")[0]),
            query_of_file=_query(raw),
            file_name=show_path(raw.rpartition(b"/")[2]),
            shell_path=shlex.quote(entry.path),
        )


def _crumbs(folder: bytes) -> list[Crumb]:
    parts = [part for part in folder.split(b"/") if part]
    return [
        Crumb(show_path(part), _query(b"/".join(parts[: place + 1])))
        for place, part in enumerate(parts)
    ]


def _query(raw: bytes) -> str:
    path, path_bytes = encode_path(raw)
    return urlencode({"path": path} | ({"path_bytes": path_bytes} if path_bytes else {}))
