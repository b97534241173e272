"""The proof of one entry: a small file that shows, off line, that it stands in a sealed record.

A file of JSON lines in canonical form: a header, the entries from the one in question to the last
that the first seal over it covers, and that seal with the path from there to its root. Each entry
holds the hash of the one before, so the seal's signature reaches back to the first line.

It is smaller than an export and says less: nothing of what came before the entry.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from millpond.audit import seals
from millpond.audit.entries import ReadEntry, parse_line, read_entry
from millpond.audit.proof import Verdict
from millpond.audit.values import ProjectRef
from millpond.ground.canonical import canonical_json

PROOF_FORMAT = "millpond-log-proof/1"


def header_line(chain: str, project: ProjectRef | None, entry: int, until: int) -> bytes:
    """Write a proof's first line: which entry it is of, and up to which the seal covers."""
    header = {
        "kind": "proof",
        "format": PROOF_FORMAT,
        "chain": chain,
        "project": None if project is None else {"id": project.id, "name": project.name},
        "entry": entry,
        "until": until,
    }
    return canonical_json(header) + b"\n"


def is_proof(data: bytes) -> bool:
    """Tell whether a file is the proof of one entry, by its first line."""
    return parse_line(data.partition(b"\n")[0]).get("kind") == "proof"


def verify_proof(
    data: bytes, public_keys: Mapping[str, bytes], checkpoint: Mapping[str, Any] | None = None
) -> Verdict:
    """Check the proof of one entry: its hash, its links to the sealed one, and the seal.

    Args:
        data: the file.
        public_keys: the server's keys, as ``seals.read_keys`` gives them. They must come from
            somewhere else than the file.
        checkpoint: what ``/log/checkpoint`` answered; held when it is the seal in the file.
    """
    lines = iter(data.splitlines())
    header = parse_line(next(lines, b""))
    if not _is_header(header):
        return Verdict(
            is_ok=False, kind="format", entry=None,
            message="The first line is not the header of a proof of a Millpond log.",
        )  # fmt: skip
    check = _Check(header, {seals.key_id_of(key): key for key in public_keys.values()})
    kind, entry, message = check.run(lines, checkpoint) or ("", None, "")
    return Verdict(
        is_ok=not kind,
        kind=kind,
        entry=entry,
        message=message or f"Entry {header['entry']} is whole and was sealed at {check.sealed_at}.",
        chain=header["chain"],
        project=str((header["project"] or {}).get("name", "")),
        entries=check.count,
        seals=0 if kind else 1,
        last_seal_at="" if kind else check.sealed_at,
        is_checkpoint_held=check.is_held,
    )


def _is_header(header: dict[str, Any]) -> bool:
    return (
        header.get("format") == PROOF_FORMAT
        and all(type(header.get(field)) is int for field in ("entry", "until"))
        and type(header.get("chain")) is str
        and isinstance(header.get("project"), (dict, type(None)))
        and 1 <= header["entry"] <= header["until"]
    )


_Fault = tuple[str, int | None, str]


class _Check:
    """A pass over a proof; each step gives the first fault, or nothing."""

    def __init__(self, header: dict[str, Any], keys: Mapping[str, bytes]) -> None:
        self.header, self.keys = header, keys
        self.count = 0
        self.sealed_at = ""
        self.is_held = False

    def run(self, lines: Iterator[bytes], checkpoint: Mapping[str, Any] | None) -> _Fault | None:
        last: ReadEntry | None = None
        for number in range(self.header["entry"], self.header["until"] + 1):
            found = read_entry(parse_line(next(lines, b"")))
            fault = self.fault_of(found, number, last)
            if fault:
                return fault
            self.count, last = self.count + 1, found
        seal = parse_line(next(lines, b""))
        assert last is not None  # noqa: S101 - the header names at least one entry.
        fault = self.fault_of_seal(seal, last)
        if fault is None and next(lines, b""):
            fault = "format", None, "Something stands behind the seal."
        return fault or self.hold_against(seal["seal"], checkpoint)

    def fault_of(self, found: ReadEntry, number: int, last: ReadEntry | None) -> _Fault | None:
        if not found.is_whole:
            return "changed", number, f"Entry {number} was changed: it lacks the hash that it says."
        if found.number != number or found.chain != self.header["chain"]:
            return "removed", number, f"Entry {number} is missing."
        if last is not None and found.previous != last.hash:
            return "changed", last.number, f"Entry {number} holds another hash of the one before."
        return None

    def fault_of_seal(self, value: dict[str, Any], last: ReadEntry) -> _Fault | None:
        payload, head = value.get("seal"), value.get("head")
        if value.get("kind") != "seal" or not seals.is_payload(payload):
            return "seal", None, "The last line is no seal."
        assert isinstance(payload, dict)  # noqa: S101 - is_payload has seen to it.
        self.sealed_at = payload["at"]
        name = f"Seal {payload['number']} of {payload['at']}"
        key = self.keys.get(payload["key_id"])
        if key is None:
            return "key", None, f"{name} is signed with {payload['key_id']}, which was not given."
        if not seals.is_signed(payload, value.get("signature"), key):
            return "seal", None, f"{name} was changed: its signature does not hold."
        if not isinstance(head, dict) or (head.get("number"), head.get("hash")) != (
            last.number,
            last.hash,
        ):
            return "changed", last.number, f"{name} does not cover entry {last.number} as it is."
        if not seals.is_head_sealed(payload, self.header["chain"], head):
            return "seal", None, f"{name} does not hold this chain: its path fails."
        return None

    def hold_against(
        self, payload: dict[str, Any], checkpoint: Mapping[str, Any] | None
    ) -> _Fault | None:
        kept = None if checkpoint is None else checkpoint.get("seal")
        if not isinstance(kept, dict) or kept.get("number") != payload["number"]:
            return None
        self.is_held = kept == payload
        return (
            None
            if self.is_held
            else ("checkpoint", None, "The record was made anew after the checkpoint.")
        )
