"""Routes of the activity log."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from millpond.audit import actions
from millpond.audit.evidence import get_entry
from millpond.audit.keys import RotatingKey
from millpond.audit.proof import Verdict
from millpond.audit.serving import Chains, FindProject, May
from millpond.audit.values import (
    Checkpoint,
    Entry,
    EntryFilter,
    EntryProof,
    PublicKeys,
)
from millpond.ground.page import Page
from millpond.storage.database import Transaction
from millpond.web.frame import AnyoneIn, CallIn, PageIn, needs, open_route

_Verb = Annotated[str, Query(max_length=80, description="A verb; `dataset.*` for all of a noun.")]
_Actor = Annotated[str, Query(max_length=200, description="The name of who did it.")]
_Target = Annotated[str, Query(max_length=400, description="What it was done to; may end in `*`.")]
_Since = Annotated[AwareDatetime | None, Query(description="The earliest time, with its zone.")]
_Until = Annotated[AwareDatetime | None, Query(description="Before this time, with its zone.")]
_Text = Annotated[
    str, Query(max_length=200, description="What verb, target or the name of who did it holds.")
]
_Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="Number of an entry.")]
_Gzip = Annotated[bool, Query(description="Whether to compress the file.")]
_LINES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/jsonl": {}}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/jsonl": {}, "application/gzip": {}}}
}


def routes(*, may: May, find_project: FindProject, key: RotatingKey) -> APIRouter:
    """Give the routes; ``may`` and ``find_project`` decide who may see which chain."""
    router = APIRouter(tags=["log"])

    chains = Chains(may, find_project, key)
    _add_project_routes(router, chains)
    _add_site_routes(router, chains)
    _add_entry_routes(router, chains)
    _add_proof_routes(router, may, key)
    return router


def _add_project_routes(router: APIRouter, chains: Chains) -> None:
    @router.get("/projects/{project}/log", **needs("log.read"))
    def list_project_log(
        call: CallIn, project: str, page: PageIn, verb: _Verb = "", actor: _Actor = "",
        target: _Target = "", since: _Since = None, until: _Until = None, text: _Text = "",
    ) -> Page[Entry]:  # fmt: skip
        """List what was done in a project, newest first."""
        asked = EntryFilter(verb, actor, target, since, until, text)

        def read(tx: Transaction) -> Page[Entry]:
            found = chains.find_project(tx, call.actor, project, "log.read")
            return actions.list_entries(
                tx, found.id, cursor=page.cursor, limit=page.limit, asked=asked
            )

        return call.read(read)

    @router.get("/projects/{project}/log/export", responses=_FILE, **needs("log.read"))
    def export_project_log(call: CallIn, project: str, gzip: _Gzip = False) -> StreamingResponse:
        """Give a project's whole log as one file that verifies off line."""
        return chains.export(call, project, is_gzip=gzip)

    @router.get("/projects/{project}/log/verify", **needs("log.read"))
    def verify_project_log(call: CallIn, project: str) -> Verdict:
        """Check a project's log as it stands in the database."""
        return chains.verify(call, project)


def _add_site_routes(router: APIRouter, chains: Chains) -> None:
    @router.get("/log", **needs("site_log.read"))
    def list_site_log(
        call: CallIn, page: PageIn, verb: _Verb = "", actor: _Actor = "",
        target: _Target = "", since: _Since = None, until: _Until = None, text: _Text = "",
    ) -> Page[Entry]:  # fmt: skip
        """List what was done outside of projects, newest first."""
        asked = EntryFilter(verb, actor, target, since, until, text)

        def read(tx: Transaction) -> Page[Entry]:
            chains.may(tx, call.actor, "site_log.read", None)
            return actions.list_entries(tx, None, cursor=page.cursor, limit=page.limit, asked=asked)

        return call.read(read)

    @router.get("/log/export", responses=_FILE, **needs("site_log.read"))
    def export_site_log(call: CallIn, gzip: _Gzip = False) -> StreamingResponse:
        """Give the site's whole log as one file that verifies off line."""
        return chains.export(call, None, is_gzip=gzip)

    @router.get("/log/verify", **needs("site_log.read"))
    def verify_site_log(call: CallIn) -> Verdict:
        """Check the site's log as it stands in the database."""
        return chains.verify(call, None)


def _add_entry_routes(router: APIRouter, chains: Chains) -> None:
    @router.get("/projects/{project}/log/entries/{number}", **needs("log.read"))
    def get_project_entry(call: CallIn, project: str, number: _Number) -> EntryProof:
        """Show one entry of a project's log, and the seal that covers it."""
        return call.read(lambda tx: get_entry(tx, chains.open(tx, call, project), number))

    @router.get(
        "/projects/{project}/log/entries/{number}/proof", responses=_LINES, **needs("log.read")
    )
    def prove_project_entry(call: CallIn, project: str, number: _Number) -> StreamingResponse:
        """Give the file that proves one entry off line."""
        return chains.prove(call, project, number)

    @router.get("/log/entries/{number}", **needs("site_log.read"))
    def get_site_entry(call: CallIn, number: _Number) -> EntryProof:
        """Show one entry of the site's log, and the seal that covers it."""
        return call.read(lambda tx: get_entry(tx, chains.open(tx, call, None), number))

    @router.get("/log/entries/{number}/proof", responses=_LINES, **needs("site_log.read"))
    def prove_site_entry(call: CallIn, number: _Number) -> StreamingResponse:
        """Give the file that proves one entry off line."""
        return chains.prove(call, None, number)


def _add_proof_routes(router: APIRouter, may: May, key: RotatingKey) -> None:
    @router.get("/log/key", **open_route())
    def read_log_keys(call: AnyoneIn) -> PublicKeys:
        """Give the public keys that seals can be checked with."""
        return call.read(lambda tx: actions.public_keys(tx, key))

    @router.post("/log/key", status_code=201, **needs("log_key.write"))
    def change_log_key(call: CallIn) -> PublicKeys:
        """Seal with a new key from now on; the old ones stay listed, and their seals good."""

        def change(tx: Transaction) -> PublicKeys:
            may(tx, call.actor, "log_key.write", None)
            return actions.change_key(tx, call.actor, key)

        return call.make(change)

    @router.get("/log/checkpoint", **needs("checkpoint.make"))
    def make_log_checkpoint(call: CallIn) -> Checkpoint:
        """Seal the log now and give the seal, to be kept somewhere else."""

        def make(tx: Transaction) -> Checkpoint:
            may(tx, call.actor, "checkpoint.make", None)
            return actions.make_checkpoint(tx, key)

        return call.change(make)
