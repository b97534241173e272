"""Routes of the activity log."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from millpond.audit import actions
from millpond.audit.evidence import get_entry, proof_lines, start_proof
from millpond.audit.keys import RotatingKey, SealKey
from millpond.audit.proof import Verdict
from millpond.audit.values import (
    Checkpoint,
    Entry,
    EntryFilter,
    EntryProof,
    Export,
    ProjectRef,
    PublicKeys,
)
from millpond.ground.actor import Actor
from millpond.ground.page import Page
from millpond.storage.database import Transaction
from millpond.web.frame import AnyoneIn, CallIn, PageIn, needs, open_route

May = Callable[[Transaction, Actor, str, str | None], None]
FindProject = Callable[[Transaction, Actor, str, str], ProjectRef]

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

    begin = _Begin(may, find_project, key)
    _add_project_routes(router, begin)
    _add_site_routes(router, begin)
    _add_entry_routes(router, begin)
    _add_proof_routes(router, may, key)
    return router


@dataclass(frozen=True)
class _Begin:
    """Begin an export, for who may see the chain."""

    may: May
    find_project: FindProject
    key: SealKey

    def chain(self, tx: Transaction, call: CallIn, project: str | None) -> ProjectRef | None:
        """Give the project, or None for the site, to whom may see its log."""
        if project is None:
            self.may(tx, call.actor, "site_log.read", None)
            return None
        return self.find_project(tx, call.actor, project, "log.read")

    def __call__(self, call: CallIn, project: str | None) -> Export:
        return call.change(
            lambda tx: actions.start_export(tx, self.key, self.chain(tx, call, project))
        )


def _add_project_routes(router: APIRouter, begin: _Begin) -> None:
    @router.get("/projects/{project}/log", **needs("log.read"))
    def list_project_log(
        call: CallIn, project: str, page: PageIn, verb: _Verb = "", actor: _Actor = "",
        target: _Target = "", since: _Since = None, until: _Until = None, text: _Text = "",
    ) -> Page[Entry]:  # fmt: skip
        """List what was done in a project, newest first."""
        asked = EntryFilter(verb, actor, target, since, until, text)

        def read(tx: Transaction) -> Page[Entry]:
            found = begin.find_project(tx, call.actor, project, "log.read")
            return actions.list_entries(
                tx, found.id, cursor=page.cursor, limit=page.limit, asked=asked
            )

        return call.read(read)

    @router.get("/projects/{project}/log/export", responses=_FILE, **needs("log.read"))
    def export_project_log(call: CallIn, project: str, gzip: _Gzip = False) -> StreamingResponse:
        """Give a project's whole log as one file that verifies off line."""
        return _file(call, begin(call, project), project, gzip)

    @router.get("/projects/{project}/log/verify", **needs("log.read"))
    def verify_project_log(call: CallIn, project: str) -> Verdict:
        """Check a project's log as it stands in the database."""
        return actions.verify(call.read, begin.key, begin(call, project))


def _add_site_routes(router: APIRouter, begin: _Begin) -> None:
    @router.get("/log", **needs("site_log.read"))
    def list_site_log(
        call: CallIn, page: PageIn, verb: _Verb = "", actor: _Actor = "",
        target: _Target = "", since: _Since = None, until: _Until = None, text: _Text = "",
    ) -> Page[Entry]:  # fmt: skip
        """List what was done outside of projects, newest first."""
        asked = EntryFilter(verb, actor, target, since, until, text)

        def read(tx: Transaction) -> Page[Entry]:
            begin.may(tx, call.actor, "site_log.read", None)
            return actions.list_entries(tx, None, cursor=page.cursor, limit=page.limit, asked=asked)

        return call.read(read)

    @router.get("/log/export", responses=_FILE, **needs("site_log.read"))
    def export_site_log(call: CallIn, gzip: _Gzip = False) -> StreamingResponse:
        """Give the site's whole log as one file that verifies off line."""
        return _file(call, begin(call, None), "site", gzip)

    @router.get("/log/verify", **needs("site_log.read"))
    def verify_site_log(call: CallIn) -> Verdict:
        """Check the site's log as it stands in the database."""
        return actions.verify(call.read, begin.key, begin(call, None))


def _add_entry_routes(router: APIRouter, begin: _Begin) -> None:
    @router.get("/projects/{project}/log/entries/{number}", **needs("log.read"))
    def get_project_entry(call: CallIn, project: str, number: _Number) -> EntryProof:
        """Show one entry of a project's log, and the seal that covers it."""
        return call.read(lambda tx: get_entry(tx, begin.chain(tx, call, project), number))

    @router.get(
        "/projects/{project}/log/entries/{number}/proof", responses=_LINES, **needs("log.read")
    )
    def prove_project_entry(call: CallIn, project: str, number: _Number) -> StreamingResponse:
        """Give the file that proves one entry off line."""
        return _proof(call, begin, project, number)

    @router.get("/log/entries/{number}", **needs("site_log.read"))
    def get_site_entry(call: CallIn, number: _Number) -> EntryProof:
        """Show one entry of the site's log, and the seal that covers it."""
        return call.read(lambda tx: get_entry(tx, begin.chain(tx, call, None), number))

    @router.get("/log/entries/{number}/proof", responses=_LINES, **needs("site_log.read"))
    def prove_site_entry(call: CallIn, number: _Number) -> StreamingResponse:
        """Give the file that proves one entry off line."""
        return _proof(call, begin, None, number)


def _proof(call: CallIn, begin: _Begin, project: str | None, number: int) -> StreamingResponse:
    proof = call.change(
        lambda tx: start_proof(tx, begin.key, begin.chain(tx, call, project), number)
    )
    return StreamingResponse(
        _joined(proof_lines(call.read, proof)),
        media_type="application/jsonl",
        headers={
            "Content-Disposition": "attachment; filename="
            f'"millpond-log-{project or "site"}-entry-{number}.jsonl"'
        },
    )


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


def _file(call: CallIn, export: Export, name: str, is_gzip: bool) -> StreamingResponse:
    lines = actions.export_lines(call.read, export)
    return StreamingResponse(
        _compressed(lines) if is_gzip else _joined(lines),
        media_type="application/gzip" if is_gzip else "application/jsonl",
        headers={
            "Content-Disposition": "attachment; filename="
            f'"millpond-log-{name}.jsonl{".gz" if is_gzip else ""}"'
        },
    )


def _joined(lines: Iterator[bytes], chunk_bytes: int = 1 << 16) -> Iterator[bytes]:
    """Put lines together, since each chunk costs a change of thread."""
    waiting = bytearray()
    for line in lines:
        waiting += line
        if len(waiting) >= chunk_bytes:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _compressed(lines: Iterator[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(wbits=31)
    for chunk in _joined(lines):
        yield squeeze.compress(chunk)
    yield squeeze.flush()
