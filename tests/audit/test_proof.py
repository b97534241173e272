"""An export is checked with nothing but itself and a key, and names what was done to it."""

import base64
import gzip
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from millpond.audit import merkle, seals
from millpond.audit.entries import ENTRY_FIELDS, entry_hash, entry_line, first_hash
from millpond.audit.keys import SealKey
from millpond.audit.proof import EXPORT_FORMAT, verify_export
from millpond.ground.canonical import canonical_json
from millpond.ground.errors import InvalidError

KEY = SealKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER = SealKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
KEYS = {KEY.key_id: KEY.public_key}
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
CHAIN = "project_1"


class Log:
    """A log made by hand, as its owner, who holds the key, could make it."""

    def __init__(self, count: int = 9, sealed_at: tuple[int, ...] = (4, 9)) -> None:
        self.entries: list[dict[str, Any]] = []
        self.seals: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            self.add(number=number)
            if number in sealed_at:
                self.seal()

    def add(self, **changes: Any) -> None:
        number = len(self.entries) + 1
        entry = {
            "chain": CHAIN,
            "number": number,
            "at": NOON + timedelta(minutes=number),
            "actor_id": "user_1",
            "actor_name": "ann",
            "verb": "dataset.version.added",
            "target": f"dataset/reviews@{number}",
            "before_digest": None,
            "after_digest": "ab" * 32,
            "request_id": f"req-{number}",
            "previous_hash": self.entries[-1]["hash"] if self.entries else first_hash(CHAIN),
        } | changes
        self.entries.append(entry | {"hash": entry_hash(entry)})

    def seal(self, key: SealKey = KEY) -> None:
        last = self.entries[-1]
        heads = [("a", 3, "aa"), (CHAIN, last["number"], last["hash"]), ("site", 7, "cc")]
        tree = seals.tree_of(heads)
        payload = seals.seal_payload(
            number=len(self.seals) + 1,
            at=last["at"],
            key_id=key.key_id,
            tree_size=len(heads),
            root=tree.root.hex(),
            previous=seals.digest_of_seal(self.seals[-1]["seal"]) if self.seals else "",
        )
        head = {"number": last["number"], "hash": last["hash"], "leaf_index": 1}
        head["path"] = [step.hex() for step in tree.path(1)]
        signature = key.sign(canonical_json(payload))
        self.seals.append({"seal": payload, "signature": signature, "head": head})

    def checkpoint(self) -> dict[str, Any]:
        last = self.seals[-1]
        return {
            "format": seals.CHECKPOINT_FORMAT,
            "seal": last["seal"],
            "signature": last["signature"],
        }

    def lines(self, key: SealKey = KEY) -> list[bytes]:
        header: dict[str, Any] = {
            "kind": "header",
            "format": EXPORT_FORMAT,
            "chain": CHAIN,
            "project": {"id": CHAIN, "name": "birds"},
            "generated_at": seals.time_text(NOON),
            "key_id": key.key_id,
            "entries": len(self.entries),
            "seals": len(self.seals),
        }
        header["signature"] = key.sign(canonical_json(header))
        return [
            canonical_json(header) + b"\n",
            *[entry_line(entry) for entry in self.entries],
            *[seals.seal_line(s["seal"], s["signature"], s["head"]) for s in self.seals],
        ]


def found(lines: list[bytes], keys: dict[str, bytes] | None = None, **more: Any) -> Any:
    verdict = verify_export(b"".join(lines), KEYS if keys is None else keys, **more)
    assert verdict.message
    return verdict.kind, verdict.entry


def reform(line: bytes, *, rehash: bool = False, **changes: Any) -> bytes:
    value = json.loads(line) | changes
    if rehash:
        value["hash"] = entry_hash(value)
    return canonical_json(value) + b"\n"


def test_a_whole_export_is_good_as_bytes_as_lines_and_as_gzip() -> None:
    lines = Log().lines()
    verdict = verify_export(lines, KEYS)
    assert verdict.is_ok
    assert (verdict.entries, verdict.seals, verdict.project) == (9, 2, "birds")
    assert verdict.last_seal_at == "2026-05-01T12:09:00.000000Z"
    assert verify_export(b"".join(lines), KEYS).is_ok
    assert verify_export(gzip.compress(b"".join(lines)), KEYS).is_ok


@pytest.mark.parametrize("field", [*ENTRY_FIELDS, "hash"])
@pytest.mark.parametrize("number", [1, 5, 9])
def test_a_flipped_field_names_its_entry(field: str, number: int) -> None:
    lines = Log().lines()
    old = json.loads(lines[number])[field]
    lines[number] = reform(lines[number], **{field: 77 if field == "number" else f"{old}x"})
    assert found(lines) == ("changed", number)


@pytest.mark.parametrize("field", [f for f in ENTRY_FIELDS if f not in ("chain", "previous_hash")])
@pytest.mark.parametrize("number", [1, 5, 8])
def test_a_flipped_field_with_its_hash_made_anew_names_its_entry(field: str, number: int) -> None:
    lines = Log().lines()
    old = json.loads(lines[number])[field]
    changed = {field: 77 if field == "number" else f"{old}x"}
    lines[number] = reform(lines[number], rehash=True, **changed)
    assert found(lines) == ("changed", number)


def test_the_last_entry_with_its_hash_made_anew_contradicts_its_seal() -> None:
    lines = Log(sealed_at=(4, 8, 9)).lines()
    lines[9] = reform(lines[9], rehash=True, verb="dataset.purged")
    assert found(lines) == ("changed", 9)


def test_a_chain_made_anew_from_one_entry_on_contradicts_the_seal_after_it() -> None:
    old, new = Log(), Log()
    del new.entries[4:]
    new.add(verb="dataset.purged")
    for _ in range(4):
        new.add()
    new.seals = old.seals
    assert found(new.lines()) == ("changed", 5)


@pytest.mark.parametrize("extra", [{"note": "hello"}, {"kind": "remark"}])
def test_a_line_with_another_field_or_kind_is_a_changed_entry(extra: dict[str, str]) -> None:
    lines = Log().lines()
    lines[3] = reform(lines[3], **extra)
    assert found(lines) == ("changed", 3)


def test_a_field_given_twice_is_a_changed_entry() -> None:
    lines = Log().lines()
    lines[3] = lines[3].replace(b'"verb":', b'"verb":"dataset.read","verb":')
    assert found(lines) == ("changed", 3)


def test_an_entry_deleted_in_the_middle_is_named() -> None:
    lines = Log().lines()
    del lines[5]
    assert found(lines) == ("removed", 5)
    del lines[5:7]
    assert found(lines) == ("removed", 5)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (4, 5), (2, 8), (8, 9)])
def test_two_swapped_entries_name_the_first_place(one: int, other: int) -> None:
    lines = Log().lines()
    lines[one], lines[other] = lines[other], lines[one]
    assert found(lines) == ("reordered", one)


@pytest.mark.parametrize("cut", range(1, 11))
def test_lines_cut_off_the_end_are_missed(cut: int) -> None:
    lines = Log().lines()[:-cut]
    kind, entry = found(lines)
    assert kind == "truncated"
    assert entry == (min(10 - (cut - 2), 5) if cut == 1 else entry)
    if cut > 2:
        assert entry == 9 - (cut - 2) + 1


def test_entries_cut_off_the_end_are_missed_when_the_seals_are_kept() -> None:
    lines = Log().lines()
    assert found(lines[:8] + lines[10:]) == ("truncated", 8)


def test_an_end_cut_back_to_an_older_seal_shows_in_the_header() -> None:
    lines = Log().lines()
    assert found(lines[:5] + lines[10:11]) == ("truncated", 5)


def test_an_older_export_shows_only_against_a_checkpoint() -> None:
    older, newer = Log(count=4), Log()
    lines = older.lines()
    assert found(lines) == ("", None)
    assert found(lines, checkpoint=newer.checkpoint()) == ("truncated", 5)
    verdict = verify_export(newer.lines(), KEYS, newer.checkpoint())
    assert verdict.is_ok
    assert verdict.is_checkpoint_held


def test_a_record_made_anew_by_the_owner_of_the_key_shows_only_against_a_checkpoint() -> None:
    kept = Log().checkpoint()
    forged = Log(count=3, sealed_at=())
    forged.add(verb="dataset.purged")
    forged.seal()
    for _ in range(5):
        forged.add()
    forged.seal()
    lines = forged.lines()
    assert found(lines) == ("", None)
    assert found(lines, checkpoint=kept) == ("checkpoint", None)
    del forged.seals[1]
    forged.add()
    forged.seals.append(dict(forged.seals[0]))
    assert found(forged.lines())[0] == "seal"


def test_a_record_that_hides_the_checkpoints_seal_is_refused_unless_it_is_younger() -> None:
    kept = Log().checkpoint()
    log = Log(sealed_at=(4,))
    log.seals += Log(sealed_at=(1, 2, 9)).seals[2:]
    assert found(log.lines(), checkpoint=kept) == ("checkpoint", None)
    kept["seal"] = kept["seal"] | {"at": "2026-01-01T00:00:00.000000Z"}
    kept["signature"] = KEY.sign(canonical_json(kept["seal"]))
    verdict = verify_export(log.lines(), KEYS, kept)
    assert verdict.is_ok
    assert not verdict.is_checkpoint_held


@pytest.mark.parametrize("change", [{"format": "x"}, {"seal": {}}, {"signature": "AAAA"}])
def test_a_checkpoint_that_is_none_is_refused(change: dict[str, Any]) -> None:
    kept = Log().checkpoint() | change
    assert found(Log().lines(), checkpoint=kept)[0] in ("checkpoint", "seal")


def test_a_forged_entry_at_the_end_is_named() -> None:
    log = Log()
    whole = log.lines()
    log.add(verb="member.added")
    forged = [*whole[:10], log.lines()[10], *whole[10:]]
    assert found(forged) == ("added", 10)
    assert found([*whole, log.lines()[10]]) == ("added", 10)


def test_a_forged_entry_in_between_is_named() -> None:
    log = Log(count=4)
    log.add(verb="member.added")
    lines = Log().lines()
    assert found([*lines[:5], log.lines()[5], *lines[5:]]) == ("added", 5)
    assert found([*lines[:5], b'{"kind":"entry"}\n', *lines[5:]]) == ("added", 5)
    assert found([*lines[:5], lines[2], *lines[5:]]) == ("added", 2)


def test_an_entry_of_another_chain_in_between_is_named() -> None:
    lines = Log().lines()
    lines[5] = reform(lines[5], rehash=True, chain="project_2")
    assert found(lines) == ("changed", 5)


def test_entries_of_another_chain_do_not_go_with_the_header() -> None:
    lines = Log().lines()
    lines[0] = reform(lines[0], chain="project_2")
    assert found(lines)[0] in ("header", "changed")


@pytest.mark.parametrize("field", ["project", "generated_at", "signature", "remark"])
def test_a_changed_header_is_named(field: str) -> None:
    lines = Log().lines()
    value = {"name": "x"} if field == "project" else "x"
    lines[0] = reform(lines[0], **{field: value})
    assert found(lines) == ("header", None)


@pytest.mark.parametrize(
    "change",
    [{"at": "2020-01-01T00:00:00.000000Z"}, {"tree_size": 4}, {"root": "ab" * 32}, {"number": 3}],
)
def test_a_changed_seal_is_named(change: dict[str, Any]) -> None:
    log = Log()
    log.seals[1]["seal"] = log.seals[1]["seal"] | change
    assert found(log.lines()) == ("seal", None)


def test_a_seal_of_another_log_does_not_hold_this_one() -> None:
    log, other = Log(), Log(sealed_at=(3, 9))
    log.seals[0] = other.seals[0] | {"head": log.seals[0]["head"]}
    assert found(log.lines()) == ("seal", None)


def test_a_log_sealed_with_another_key_is_not_trusted() -> None:
    log = Log(sealed_at=())
    log.seal(OTHER)
    assert found(log.lines(OTHER)) == ("key", None)
    assert found(log.lines(OTHER), {"name": OTHER.public_key}) == ("", None)
    log.seals[0]["seal"] = log.seals[0]["seal"] | {"key_id": KEY.key_id}
    assert found(log.lines(KEY)) == ("seal", None)
    assert found(Log().lines(OTHER)) == ("key", None)


@pytest.mark.parametrize("text", [b"", b"hello\n", b"[1]\n", b"\x1f\x8bbroken", b'{"a":NaN}\n'])
def test_what_is_no_export_is_called_so(text: bytes) -> None:
    assert found([text]) == ("format", None)


@given(st.data())
def test_no_change_of_a_byte_passes(data: st.DataObject) -> None:
    whole = b"".join(Log(count=5, sealed_at=(2, 5)).lines())
    place = data.draw(st.integers(0, len(whole) - 2))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    assert not verify_export(whole[:place] + bytes([byte]) + whole[place + 1 :], KEYS).is_ok


@given(st.permutations(range(1, 6)))
def test_no_other_order_passes(order: list[int]) -> None:
    lines = Log(count=5, sealed_at=(2, 5)).lines()
    mixed = [lines[0], *[lines[place] for place in order], *lines[6:]]
    expected = next((i for i, place in enumerate(order, 1) if place != i), None)
    assert found(mixed) == (("reordered", expected) if expected else ("", None))


# The tree ------------------------------------------------------------------------------------


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + root_of(leaves[:k]) + root_of(leaves[k:])).digest()


LEAVES = st.lists(st.binary(max_size=8), max_size=40)


@given(LEAVES)
def test_the_tree_has_the_shape_of_the_rfc(leaves: list[bytes]) -> None:
    tree = merkle.MerkleTree(leaves)
    assert tree.root == root_of(leaves)
    for index, leaf in enumerate(leaves):
        path = tree.path(index)
        assert merkle.is_included(leaf, index, len(leaves), path, tree.root)
        assert not merkle.is_included(leaf + b"x", index, len(leaves), path, tree.root)
        assert not merkle.is_included(leaf, index, len(leaves), [*path, b"x" * 32], tree.root)
        if path:
            assert not merkle.is_included(leaf, index, len(leaves), path[:-1], tree.root)


def test_a_place_outside_the_tree_is_not_in_it() -> None:
    tree = merkle.MerkleTree([b"a"])
    assert not merkle.is_included(b"a", 1, 1, [], tree.root)
    assert not merkle.is_included(b"a", -1, 1, [], tree.root)


# Keys ----------------------------------------------------------------------------------------


def test_keys_are_read_from_the_servers_answer_and_from_plain_lines() -> None:
    text = base64.b64encode(KEY.public_key).decode()
    answer = json.dumps({"keys": [{"key_id": "whatever", "public_key": text}]})
    assert seals.read_keys(answer) == KEYS == seals.read_keys(f"{text}\n")


@pytest.mark.parametrize("text", ["", "nonsense!", "AAAA", '{"keys": []}'])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        seals.read_keys(text)
