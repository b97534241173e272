"""Give chains of the log to whom may see them: as exports, proofs and verdicts."""

import base64
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fastapi.responses import StreamingResponse

from millpond.audit import actions
from millpond.audit.evidence import proof_lines, start_proof
from millpond.audit.inclusion import verify_proof
from millpond.audit.keys import SealKey
from millpond.audit.proof import Verdict
from millpond.audit.values import ProjectRef
from millpond.ground.actor import Actor
from millpond.storage.database import Transaction
from millpond.web.calls import Call

May = Callable[[Transaction, Actor, str, str | None], None]
FindProject = Callable[[Transaction, Actor, str, str], ProjectRef]


@dataclass(frozen=True)
class Chains:
    """The chains of the log, for who may see them; a project of None is the site.

    Attributes:
        may: refuses who may not.
        find_project: the same within a project, which it gives.
        key: what seals are signed with.
    """

    may: May
    find_project: FindProject
    key: SealKey

    def open(self, tx: Transaction, call: Call, project: str | None) -> ProjectRef | None:
        """Give the project, or None for the site, to whom may see its log."""
        if project is None:
            self.may(tx, call.actor, "site_log.read", None)
            return None
        return self.find_project(tx, call.actor, project, "log.read")

    def verify(self, call: Call, project: str | None) -> Verdict:
        """Check a chain as it stands in the database."""
        export = call.change(
            lambda tx: actions.start_export(tx, self.key, self.open(tx, call, project))
        )
        return actions.verify(call.read, self.key, export)

    def check(self, call: Call, project: str | None, number: int) -> Verdict:
        """Check the proof of one sealed entry, as whoever gets its file would."""
        proof = call.read(
            lambda tx: start_proof(tx, self.key, self.open(tx, call, project), number)
        )
        keys = call.read(lambda tx: actions.public_keys(tx, self.key)).keys
        return verify_proof(
            b"".join(proof_lines(call.read, proof)),
            {known.key_id: base64.b64decode(known.public_key) for known in keys},
        )

    def export(self, call: Call, project: str | None, *, is_gzip: bool) -> StreamingResponse:
        """Give a chain as one file that verifies off line."""
        export = call.change(
            lambda tx: actions.start_export(tx, self.key, self.open(tx, call, project))
        )
        lines = actions.export_lines(call.read, export)
        return StreamingResponse(
            _compressed(lines) if is_gzip else _joined(lines),
            media_type="application/gzip" if is_gzip else "application/jsonl",
            headers={
                "Content-Disposition": "attachment; filename="
                f'"millpond-log-{project or "site"}.jsonl{".gz" if is_gzip else ""}"'
            },
        )

    def prove(self, call: Call, project: str | None, number: int) -> StreamingResponse:
        """Give the file that proves one entry off line."""
        proof = call.change(
            lambda tx: start_proof(tx, self.key, self.open(tx, call, project), number)
        )
        return StreamingResponse(
            _joined(proof_lines(call.read, proof)),
            media_type="application/jsonl",
            headers={
                "Content-Disposition": "attachment; filename="
                f'"millpond-log-{project or "site"}-entry-{number}.jsonl"'
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
