"""Pages of what runs left: all files, one file, the report."""

from urllib.parse import urlencode

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, Response

from millpond.ground.errors import TooLargeError
from millpond.pipelines.outputs.looking import look_at_output, policy_of_report, text_of
from millpond.pipelines.outputs.manifests import find_output
from millpond.pipelines.outputs.routes import Outputs, PathBytesIn, PathIn, page_of
from millpond.pipelines.outputs.values import REPORT, OutputFile
from millpond.storage.port import ObjectStore
from millpond.web.calls import PageIn
from millpond.web.portal import Portal, VisitIn, page

_RUN = "/projects/{project}/runs/{run}"
_REPORT_BYTES = 64 << 20


def pages(portal: Portal, objects: ObjectStore, outputs: Outputs) -> APIRouter:
    """Make the pages.

    Args:
        portal: makes them.
        objects: where contents lie.
        outputs: finds what runs left.
    """
    router = APIRouter()

    @router.get(f"{_RUN}/outputs", **page("run.read"))
    def show_outputs(visit: VisitIn, project: str, run: str, asked: PageIn) -> HTMLResponse:
        """List all files that a run left."""
        found, manifest = outputs.of(visit, project, run)
        return portal.render(
            visit,
            "pipelines/outputs/list.html",
            run=found,
            files=page_of(manifest, asked.cursor, asked.limit),
            query_of=query_of,
        )

    @router.get(f"{_RUN}/outputs/file", **page("run.read"))
    def show_output(
        visit: VisitIn, project: str, run: str, path: PathIn, path_bytes: PathBytesIn = None
    ) -> HTMLResponse:
        """Show the beginning of a file that a run left."""
        found = outputs.file(visit, project, run, path, path_bytes)
        preview = look_at_output(objects, found)
        return portal.render(
            visit,
            "pipelines/outputs/file.html",
            run_id=run,
            file=found,
            preview=preview,
            text=text_of(preview),
            query_of=query_of,
        )

    @router.get(f"{_RUN}/report", **page("run.read"))
    def show_report(visit: VisitIn, project: str, run: str) -> Response:
        """Show a run's report as it was written, shut in by a policy of its own."""
        found = find_output(outputs.of(visit, project, run)[1], REPORT.encode())
        if found.size > _REPORT_BYTES:
            raise TooLargeError(
                "The report is too large to be shown.",
                next_step="Download it and open it from your disk.",
                bytes_most=_REPORT_BYTES,
            )
        text = objects.get(found.key)
        headers = {"Content-Security-Policy": policy_of_report(text)}
        return Response(text, media_type="text/html; charset=utf-8", headers=headers)

    return router


def query_of(found: OutputFile) -> str:
    """Give the query that names a file."""
    given = {"path": found.path}
    return urlencode(given | ({"path_bytes": found.path_bytes} if found.path_bytes else {}))
