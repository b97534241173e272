"""Look at one entry: the entry itself, the seal over it, and the file that proves it off line."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from millpond.audit import entries as lines
from millpond.audit import inclusion, seals, store
from millpond.audit.actions import list_entries, seal
from millpond.audit.keys import SealKey
from millpond.audit.values import (
    SITE_CHAIN,
    Entry,
    EntryProof,
    ProjectRef,
    Seal,
    SealedHead,
)
from millpond.ground.canonical import canonical_json
from millpond.ground.errors import ConflictError, NotFoundError
from millpond.storage.database import Transaction


@dataclass(frozen=True)
class ProofFile:
    """What the proof of one entry holds, fixed when it begins."""

    chain: str
    entry: int
    project: ProjectRef | None
    seal: Seal
    head: SealedHead


def get_entry(tx: Transaction, project: ProjectRef | None, number: int) -> EntryProof:
    """Give one entry of a project's chain, or of the site's without a project.

    Raises:
        NotFoundError: the chain has no such entry.
    """
    chain = SITE_CHAIN if project is None else project.id
    found = store.find_entry(tx, chain, number)
    newest = store.newest_number(tx, chain)
    if found is None:
        raise NotFoundError(
            f"The record has no entry {number}; its newest is {newest}.",
            next_step="List the entries with `millpond log show`.",
            entry=number,
        )
    covering = store.first_seal_over(tx, chain, number)
    body = {field: getattr(found, field) for field in lines.ENTRY_FIELDS}
    return EntryProof(
        entry=found,
        canonical=canonical_json({**body, "at": seals.time_text(found.at)}).decode(),
        is_whole=lines.entry_hash(asdict(found)) == found.hash,
        newest=newest,
        seal=covering[0] if covering else None,
        head=covering[1] if covering else None,
    )


def start_proof(
    tx: Transaction, key: SealKey, project: ProjectRef | None, number: int
) -> ProofFile:
    """Seal the record if the entry is not sealed yet, and say what its proof will hold.

    Raises:
        NotFoundError: the chain has no such entry.
        ConflictError: the record was tampered with and cannot be sealed.
    """
    found = get_entry(tx, project, number)
    chain = found.entry.chain
    if found.seal is None:
        seal(tx, key)
    covering = store.first_seal_over(tx, chain, number)
    if covering is None:
        raise ConflictError(
            f"No seal covers entry {number}.",
            next_step="Verify the record: `millpond log verify`.",
            entry=number,
        )
    return ProofFile(chain, number, project, *covering)


def proof_lines(
    read: Callable[[Callable[[Transaction], list[bytes]]], list[bytes]], proof: ProofFile
) -> Iterator[bytes]:
    """Give the lines of an entry's proof, page by page, each page in a short transaction.

    Args:
        read: runs an action that only reads, such as ``Database.read``.
        proof: what ``start_proof`` has given.
    """
    until, number = proof.head.number, proof.entry - 1
    yield inclusion.header_line(proof.chain, proof.project, proof.entry, until)
    while number < until:
        page = read(lambda tx, after=number: _entry_lines(tx, proof, after))  # type: ignore[misc]
        yield from page
        if not page:
            break  # The record has a hole; the check will say where.
        number = int(lines.parse_line(page[-1])["number"])
    made, head = proof.seal, proof.head
    payload = seals.seal_payload(
        number=made.number,
        at=made.at,
        key_id=made.key_id,
        tree_size=made.tree_size,
        root=made.root,
        previous=made.previous,
    )
    place = {field: getattr(head, field) for field in ("number", "hash", "leaf_index", "path")}
    yield seals.seal_line(payload, made.signature, place)


def _entry_lines(tx: Transaction, proof: ProofFile, after: int) -> list[bytes]:
    found = store.entries_after(tx, proof.chain, after, proof.head.number)
    return [lines.entry_line(entry) for entry in found]


# Across projects --------------------------------------------------------------------------------


def last_changes(tx: Transaction, project_ids: Sequence[str]) -> Mapping[str, datetime]:
    """Tell when something was last changed in each of these projects; the caller may see them."""
    return store.last_changes(tx, project_ids) if project_ids else {}


def newest_entries(tx: Transaction, project_ids: Sequence[str], limit: int) -> list[Entry]:
    """Give the newest entries of some projects together; the caller may see them.

    Cost: one short query by the primary key for each project.
    """
    found = [
        entry
        for project_id in project_ids
        for entry in list_entries(tx, project_id, limit=limit).items
    ]
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]
