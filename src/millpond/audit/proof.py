"""Check the record with no server, no network and no database.

An export is a file of JSON lines, each in canonical form: a signed header, the entries of one
chain in their order, and the seals in theirs, each with the proof that the chain ended at a
certain entry when it was made. An entry's hash is the sha256 of its canonical JSON, which holds
the hash of the entry before; the first holds the sha256 of the chain's id.

What a file alone cannot show: that it is not an old export, or that the server's owner, who
holds the key, did not make the whole record anew. A checkpoint that someone else kept shows both.
"""

import gzip
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain as joined
from typing import Any, NoReturn

from millpond.audit import seals
from millpond.audit.entries import ReadEntry, first_hash, parse_line, read_entry

EXPORT_FORMAT = "millpond-log-export/1"
_HASH_BYTES = 32


@dataclass(frozen=True)
class Verdict:
    """What became of a check.

    Attributes:
        is_ok: whether every entry is as it was written and sealed.
        kind: what is wrong first: ``changed``, ``removed``, ``reordered``, ``truncated``,
            ``added`` (an entry); ``header``, ``seal``, ``key``, ``checkpoint``, ``format`` (the
            file); empty when nothing is.
        entry: number of the first entry that is wrong; None when no single one can be named.
        message: the same in words.
        chain: the project's id, or ``site``.
        project: the project's name; empty for the site.
        entries: how many entries were found good, from the first on.
        seals: how many seals were found good.
        last_seal_at: when the newest good seal was made, as text; empty without one.
        is_checkpoint_held: whether a given checkpoint was found in the record.
    """

    is_ok: bool
    kind: str
    entry: int | None
    message: str
    chain: str = ""
    project: str = ""
    entries: int = 0
    seals: int = 0
    last_seal_at: str = ""
    is_checkpoint_held: bool = False


def verify_export(
    export: bytes | Iterable[bytes],
    public_keys: Mapping[str, bytes],
    checkpoint: Mapping[str, Any] | None = None,
) -> Verdict:
    """Check an export: the chain, the seals, the header and, when given, a checkpoint.

    Args:
        export: the file's bytes, gzip or not, or its lines.
        public_keys: the server's keys, as ``seals.read_keys`` gives them. They must come from
            somewhere else than the file.
        checkpoint: what ``/log/checkpoint`` answered at some earlier time.

    Cost: one pass; 32 bytes of memory per entry.
    """
    check = _Check(public_keys)
    try:
        check.run(_lines(export))
        if checkpoint is not None:
            check.hold_against(checkpoint)
    except _FaultError as fault:
        return check.verdict(fault)
    return check.verdict(None)


def _lines(export: bytes | Iterable[bytes]) -> Iterator[bytes]:
    if not isinstance(export, bytes):
        yield from export
        return
    if export[:2] == b"\x1f\x8b":
        try:
            export = gzip.decompress(export)
        except (OSError, EOFError) as fault:
            raise _FaultError("format", None, f"The file is damaged gzip: {fault}.") from fault
    yield from export.splitlines(keepends=True)


class _FaultError(Exception):
    def __init__(self, kind: str, entry: int | None, message: str) -> None:
        super().__init__(message)
        self.kind, self.entry, self.message = kind, entry, message


class _Check:
    """A pass over an export; what was found good so far."""

    def __init__(self, public_keys: Mapping[str, bytes]) -> None:
        self.keys = {seals.key_id_of(key): key for key in public_keys.values()}
        self.header: dict[str, Any] = {}
        self.chain = ""
        self.hashes = bytearray()
        self.first_at = ""
        self.sealed = 0
        self.seals: list[dict[str, Any]] = []
        self.held = False

    @property
    def count(self) -> int:
        return len(self.hashes) // _HASH_BYTES

    def hash_at(self, number: int) -> str:
        if number == 0:
            return first_hash(self.chain)
        return self.hashes[(number - 1) * _HASH_BYTES : number * _HASH_BYTES].hex()

    def verdict(self, fault: _FaultError | None) -> Verdict:
        newest = str(self.seals[-1]["at"]) if self.seals else ""
        until = f" and sealed until {newest}" if newest else ""
        return Verdict(
            is_ok=fault is None,
            kind=fault.kind if fault else "",
            entry=fault.entry if fault else None,
            message=fault.message if fault else f"{self.count} entries are whole{until}.",
            chain=self.chain,
            project=str((self.header.get("project") or {}).get("name", "")),
            entries=self.count,
            seals=len(self.seals),
            last_seal_at=newest,
            is_checkpoint_held=self.held,
        )

    def run(self, lines: Iterator[bytes]) -> None:
        self.read_header(next(lines, b""))
        rest = self.read_entries(lines)
        for value in rest:
            self.read_seal(value)
        self.check_ends()
        self.check_header()

    def read_header(self, line: bytes) -> None:
        header = parse_line(line)
        project = header.get("project")
        is_header = (
            header.get("format") == EXPORT_FORMAT
            and all(type(header.get(field)) is int for field in ("entries", "seals"))
            and all(type(header.get(field)) is str for field in ("chain", "key_id"))
            and (project is None or isinstance(project, dict))
        )
        if not is_header:
            raise _FaultError(
                "format", None, "The first line is not the header of an export of a Millpond log."
            )
        self.header, self.chain = header, header["chain"]

    def read_entries(self, lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
        """Follow the chain; give the values from the first line on that is no entry."""
        previous, expected = first_hash(self.chain), 1
        for line in lines:
            value = parse_line(line)
            if value.get("kind") == "seal":
                return joined([value], map(parse_line, lines))
            found = read_entry(value)
            is_next = found.is_whole and found.number == expected and found.previous == previous
            if not is_next or found.chain != self.chain:
                self.explain(found, expected, lines)
            self.first_at = self.first_at or found.at
            self.hashes += bytes.fromhex(found.hash)
            previous, expected = found.hash, expected + 1
        return iter(())

    def explain(self, found: ReadEntry, expected: int, lines: Iterator[bytes]) -> NoReturn:
        """Name the first wrong entry, by what stands after the place where the chain breaks."""
        values = [parse_line(line) for line in lines]
        rest = [read_entry(value) for value in values if value.get("kind") != "seal"]
        ends = {_end_of(value) for value in values if value.get("kind") == "seal"}
        following = rest[0] if rest else ReadEntry(is_whole=False)
        before, previous = expected - 1, self.hash_at(expected - 1)
        if not found.is_whole:
            is_followed = following.number == expected and following.previous == previous
            if following.is_whole and is_followed:
                raise _added(expected, "a line that is no entry stands before it")
            raise _changed(expected, "it does not have the hash that it says")
        if expected == 1 and found.chain != self.chain:
            raise _FaultError(
                "header", None, f"The header is of chain {self.chain}, the entries of another."
            )
        if found.number > expected and any(later.number == expected for later in rest):
            raise _FaultError(
                "reordered", expected, f"Entry {expected} stands behind entry {found.number}."
            )
        if found.number != expected and following.number == expected + 1:
            raise _changed(expected, f"in its place stands one with the number {found.number}")
        if found.number > expected:
            gone = f"Entries {expected} to {found.number - 1} were"
            gone = f"Entry {expected} was" if found.number == expected + 1 else gone
            raise _FaultError("removed", expected, f"{gone} removed.")
        if found.number < expected:
            raise _added(found.number, "there are two with this number")
        is_found_known = following.previous == found.hash or (expected, found.hash) in ends
        if before and is_found_known and (before, previous) not in ends:
            raise _changed(before, f"entry {expected} holds another hash of it")
        raise _changed(expected, f"it does not hold the hash of entry {before}")

    def read_seal(self, value: dict[str, Any]) -> None:
        """Check a seal's signature, its order, and the head of this chain that it holds."""
        if value.get("kind") == "entry":
            number = read_entry(value).number
            raise _added(number if number > 0 else None, "it stands behind the seals")
        payload, head = value.get("seal"), value.get("head")
        is_seal = value.keys() == {"kind", "seal", "signature", "head"} and seals.is_payload(
            payload
        )
        if not is_seal or not isinstance(head, dict) or type(head.get("number")) is not int:
            raise _FaultError("seal", None, "A line behind the entries is no seal.")
        assert isinstance(payload, dict)  # noqa: S101 - is_payload has seen to it.
        name = f"Seal {payload['number']} of {payload['at']}"
        self.check_signature(payload, value["signature"], name)
        if self.seals:
            self.check_order(self.seals[-1], payload, name)
        self.check_head(payload, head, name)
        self.seals.append(payload)

    def check_signature(self, payload: dict[str, Any], signature: object, name: str) -> None:
        key = self.keys.get(payload["key_id"])
        if key is None:
            raise _FaultError(
                "key", None, f"{name} is signed with key {payload['key_id']}, which was not given."
            )
        if not seals.is_signed(payload, signature, key):
            raise _FaultError("seal", None, f"{name} was changed: its signature does not hold.")

    def check_order(self, last: dict[str, Any], payload: dict[str, Any], name: str) -> None:
        is_next = payload["number"] == last["number"] + 1
        if payload["number"] <= last["number"] or (
            is_next and payload["previous"] != seals.digest_of_seal(last)
        ):
            raise _FaultError("seal", None, f"{name} does not follow seal {last['number']}.")

    def check_head(self, payload: dict[str, Any], head: dict[str, Any], name: str) -> None:
        number = head["number"]
        if not seals.is_head_sealed(payload, self.chain, head) or number < 1:
            raise _FaultError(
                "seal", None, f"{name} does not hold this chain as the file says: its proof fails."
            )
        if number > self.count:
            wrong = self.count + 1
            raise _FaultError(
                "truncated", wrong, f"Entry {wrong} and those after it, to {number}, are missing."
            )
        if head["hash"] != self.hash_at(number):
            wrong = self.sealed + 1
            between = f"between {wrong} and {number}" if wrong < number else str(number)
            raise _FaultError(
                "changed", wrong, f"An entry ({between}) was changed after {name} was made."
            )
        if number < self.sealed:
            raise _FaultError("seal", None, f"{name} goes back behind the seal before it.")
        self.sealed = number

    def check_ends(self) -> None:
        if self.count < self.header["entries"]:
            wrong = self.count + 1
            raise _FaultError("truncated", wrong, f"Entry {wrong} and those after it are missing.")
        wrong = self.sealed + 1
        if len(self.seals) < self.header["seals"]:
            entry = wrong if self.sealed < self.count else None
            gone = self.header["seals"] - len(self.seals)
            raise _FaultError("truncated", entry, f"{gone} seals are missing at the end.")
        if self.sealed < self.count:
            raise _added(wrong, "no seal covers it, and an export ends with one that covers all")

    def check_header(self) -> None:
        signed = {field: value for field, value in self.header.items() if field != "signature"}
        key = self.keys.get(self.header["key_id"])
        if key is None:
            raise _FaultError(
                "key", None, f"The file is signed with key {signed['key_id']}, which was not given."
            )
        counts = (self.header["entries"], self.header["seals"])
        is_signed = seals.is_signed(signed, self.header.get("signature"), key)
        if not is_signed or counts != (self.count, len(self.seals)):
            raise _FaultError(
                "header", None, "The header was changed: its signature or its counts do not hold."
            )

    def hold_against(self, checkpoint: Mapping[str, Any]) -> None:
        """Compare with a seal that someone kept elsewhere."""
        payload = checkpoint.get("seal")
        if checkpoint.get("format") != seals.CHECKPOINT_FORMAT or not seals.is_payload(payload):
            raise _FaultError("checkpoint", None, "The checkpoint given is none of a Millpond log.")
        assert isinstance(payload, dict)  # noqa: S101 - is_payload has seen to it.
        name = f"seal {payload['number']} of {payload['at']}"
        self.check_signature(payload, checkpoint.get("signature"), f"The checkpoint, {name},")
        newest = self.seals[-1]["number"] if self.seals else 0
        if newest < payload["number"]:
            raise _FaultError(
                "truncated",
                self.count + 1,
                f"The file ends at seal {newest}, before the checkpoint ({name}): its end was cut"
                " off, or it is an older export.",
            )
        same = [seal for seal in self.seals if seal["number"] == payload["number"]]
        if same and same[0] != payload:
            raise _FaultError(
                "checkpoint", None, f"The record was made anew after the checkpoint ({name})."
            )
        if not same and self.first_at and self.first_at <= payload["at"]:
            raise _FaultError(
                "checkpoint",
                None,
                f"The file holds no proof for the checkpoint ({name}), though its first entry is"
                " older.",
            )
        self.held = bool(same)


def _end_of(value: dict[str, Any]) -> tuple[object, object]:
    head = value.get("head")
    return (head.get("number"), str(head.get("hash"))) if isinstance(head, dict) else (None, None)


def _changed(entry: int, why: str) -> _FaultError:
    return _FaultError("changed", entry, f"Entry {entry} was changed: {why}.")


def _added(entry: int | None, why: str) -> _FaultError:
    name = "An entry" if entry is None else f"Entry {entry}"
    return _FaultError("added", entry, f"{name} was added: {why}.")
