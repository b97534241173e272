"""What can be done with the activity log: note a change, look, seal, export, verify."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

from millpond.audit import entries as lines
from millpond.audit import seals, store
from millpond.audit.keys import RotatingKey, SealKey
from millpond.audit.proof import EXPORT_FORMAT, Verdict, verify_export
from millpond.audit.values import (
    SITE_CHAIN,
    Checkpoint,
    Entry,
    EntryFilter,
    Export,
    Head,
    ProjectRef,
    PublicKey,
    PublicKeys,
    Seal,
    SealedHead,
)
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.canonical import canonical_json, digest_of
from millpond.ground.errors import ConflictError
from millpond.ground.page import PAGE_LIMIT, Page, decode_cursor, make_page
from millpond.storage.database import Transaction
from millpond.storage.events import publish

_PENDING = "audit_pending"
ACTIVITY_TOPIC = "activity"
"""Tells of every transaction that adds to a project's log."""
TARGET_LENGTH = 400
REQUEST_ID_LENGTH = 80


def note(
    tx: Transaction,
    actor: Actor,
    verb: str,
    target: str,
    *,
    project_id: str | None = None,
    before: object = None,
    after: object = None,
) -> None:
    """Write an entry of the activity log in this transaction.

    The entry joins the chain of the project, or the site's chain without one, just before the
    commit: the heads are locked last, in one order, so writers of different projects never wait
    for each other.

    Args:
        tx: the transaction of the change itself.
        actor: who did it.
        verb: past tense, for example ``dataset.version.added``.
        target: for example ``dataset/reviews@3``.
        project_id: the project it belongs to; None for the site.
        before: the state before as a JSON value, None when there was none; only its digest is
            kept. Never a secret: a digest of a short one can be guessed.
        after: the same of the state after.
    """
    pending: list[dict[str, Any]] = tx.kept.setdefault(_PENDING, [])
    pending.append(
        {
            "chain": project_id or SITE_CHAIN,
            "at": tx.now,
            "actor_id": actor.user_id,
            "actor_name": actor.name,
            "verb": verb,
            "target": target[:TARGET_LENGTH],
            "before_digest": None if before is None else digest_of(before),
            "after_digest": None if after is None else digest_of(after),
            "request_id": tx.request_id[:REQUEST_ID_LENGTH],
        }
    )
    if project_id is not None and all(entry["chain"] != project_id for entry in pending[:-1]):
        publish(tx, project_id=project_id, topic=ACTIVITY_TOPIC, kind="activity.noted")
    # The second round before the commit: whatever locks others take in the first come earlier.
    tx.before_commit("audit", lambda: tx.before_commit("audit", lambda: _write(tx)))


def _write(tx: Transaction) -> None:
    pending: list[dict[str, Any]] = tx.kept.pop(_PENDING, [])
    by_chain: dict[str, list[dict[str, Any]]] = {}
    for entry in pending:
        by_chain.setdefault(entry["chain"], []).append(entry)
    for chain, entries in sorted(by_chain.items()):
        head = store.lock_head(tx, chain)
        if head is None:
            head = store.start_chain(tx, chain, lines.first_hash(chain))
        number, digest = head.number, head.hash
        for entry in entries:
            number += 1
            entry |= {"number": number, "previous_hash": digest}
            digest = entry["hash"] = lines.entry_hash(entry)
        store.add_entries(tx, entries)
        store.move_head(tx, chain, number, digest)


def list_entries(
    tx: Transaction,
    project_id: str | None,
    *,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
    asked: EntryFilter | None = None,
) -> Page[Entry]:
    """Give a page of a chain's entries, newest first; of the site's chain without a project."""
    key = decode_cursor(cursor, int)
    found = store.list_entries(
        tx,
        project_id or SITE_CHAIN,
        before=None if key is None else int(key[0]),
        limit=limit + 1,
        asked=asked or EntryFilter(),
    )
    return make_page(found, limit, lambda entry: [entry.number])


def public_keys(tx: Transaction, key: SealKey) -> PublicKeys:
    """Give the public keys that seals can be checked with, the one in use among them."""
    kept = store.public_keys(tx)
    if all(known.key_id != key.key_id for known in kept):
        kept.insert(0, PublicKey(key.key_id, _public_text(key), tx.now))
    return PublicKeys(kept)


def change_key(tx: Transaction, actor: Actor, key: RotatingKey) -> PublicKeys:
    """Seal with a new key from now on; give all public keys, the new one first.

    The log so far is sealed with the old key once more, so that the entry of the change follows
    upon a seal of the old key; that one stays listed, and what it has sealed stays good.
    """
    old = key.in_use(tx)
    seal(tx, old)
    new = key.change(tx)
    store.add_key(tx, new.key_id, _public_text(new))
    note(
        tx, actor, "log.key.changed", f"key/{new.key_id}",
        before=_public_text(old), after=_public_text(new),
    )  # fmt: skip
    kept = store.public_keys(tx)
    return PublicKeys(sorted(kept, key=lambda known: known.key_id != new.key_id))


# Seals -----------------------------------------------------------------------------------------


def seal_if_due(tx: Transaction, key: SealKey, seal_seconds: float) -> Seal | None:
    """Make a seal when something happened and the newest seal is old enough."""
    newest = store.newest_seal(tx)
    is_young = newest is not None and (tx.now - newest.at).total_seconds() < seal_seconds
    if is_young or not store.has_unsealed(tx):
        return None
    return seal(tx, key)


def unsealed_seconds(tx: Transaction) -> float:
    """Give for how many seconds an entry has waited for its seal; 0 when all are sealed."""
    since = store.oldest_unsealed(tx)
    return 0.0 if since is None else max(0.0, (tx.now - since).total_seconds())


def seal(tx: Transaction, key: SealKey, *, complete: bool = False) -> Seal:
    """Sign the heads of all chains as they are, unless the newest seal holds them already.

    Args:
        tx: the transaction to seal in.
        key: what to sign with.
        complete: keep a proof for every chain, not only for those that moved, so that exports
            made later can be held against this seal.

    Raises:
        ConflictError: a chain lies behind what was sealed, or is gone: the database was changed
            by other hands, or an old copy of it was put back.
    """
    store.lock_seals(tx)
    key = key.in_use(tx)
    newest = store.newest_seal(tx)
    is_enough = newest is not None and newest.key_id == key.key_id
    is_enough = is_enough and (not complete or (newest is not None and newest.is_complete))
    if newest is not None and is_enough and not store.has_unsealed(tx):
        return newest
    if store.add_key(tx, key.key_id, _public_text(key)):
        note(tx, SYSTEM, "log.key.added", f"key/{key.key_id}", after=_public_text(key))
    heads = store.heads(tx)
    _refuse_to_go_back(heads, newest)
    tree = seals.tree_of([(head.chain, head.number, head.hash) for head in heads])
    payload = seals.seal_payload(
        number=1 if newest is None else newest.number + 1,
        at=tx.now,
        key_id=key.key_id,
        tree_size=len(heads),
        root=tree.root.hex(),
        previous="" if newest is None else seals.digest_of_seal(payload_of(newest)),
    )
    made = Seal(
        number=payload["number"],
        at=tx.now,
        key_id=key.key_id,
        tree_size=len(heads),
        root=payload["root"],
        previous=payload["previous"],
        signature=key.sign(canonical_json(payload)),
        is_complete=complete,
    )
    sealed = [
        SealedHead(
            head.chain, made.number, head.number, head.hash, index,
            [step.hex() for step in tree.path(index)],
        )
        for index, head in enumerate(heads)
        if complete or head.number != head.sealed_number
    ]  # fmt: skip
    store.add_seal(tx, made, sealed)
    return made


def make_checkpoint(tx: Transaction, key: SealKey) -> Checkpoint:
    """Seal the log as it is now, in a form to keep elsewhere."""
    made = seal(tx, key, complete=True)
    return Checkpoint(seals.CHECKPOINT_FORMAT, payload_of(made), made.signature)


def _refuse_to_go_back(heads: list[Head], newest: Seal | None) -> None:
    known = sum(head.sealed_number > 0 for head in heads)
    gone = newest is not None and known < newest.tree_size
    back = [
        head.chain
        for head in heads
        if head.number < head.sealed_number
        or (head.number == head.sealed_number and head.hash != head.sealed_hash)
    ]
    if gone or back:
        raise ConflictError(
            "The log lies behind its newest seal"
            f" ({', '.join(back) or 'a chain is gone'}): the database was changed by other hands,"
            " or an old copy of it was put back.",
            next_step="Nothing was sealed. Verify the log, compare it with an export or a"
            " checkpoint kept elsewhere, and put the right copy of the database back.",
            chains=back,
        )


def payload_of(made: Seal) -> dict[str, Any]:
    """Give what a seal has signed."""
    return seals.seal_payload(
        number=made.number,
        at=made.at,
        key_id=made.key_id,
        tree_size=made.tree_size,
        root=made.root,
        previous=made.previous,
    )


def _public_text(key: SealKey) -> str:
    return base64.b64encode(key.public_key).decode()


# Export and check ------------------------------------------------------------------------------


def start_export(tx: Transaction, key: SealKey, project: ProjectRef | None) -> Export:
    """Seal the log and say what an export of a project's chain, or the site's, will hold.

    A log that was tampered with is not sealed anew; its export shows what is left.
    """
    key = key.in_use(tx)
    try:
        last_seal = seal(tx, key).number
    except ConflictError:
        newest = store.newest_seal(tx)
        last_seal = 0 if newest is None else newest.number
    chain = SITE_CHAIN if project is None else project.id
    until = store.sealed_until(tx, chain, last_seal)
    header: dict[str, Any] = {
        "kind": "header",
        "format": EXPORT_FORMAT,
        "chain": chain,
        "project": None if project is None else {"id": project.id, "name": project.name},
        "generated_at": seals.time_text(tx.now),
        "key_id": key.key_id,
        "entries": until,
        "seals": store.sealed_count(tx, chain, last_seal),
    }
    header["signature"] = key.sign(canonical_json(header))
    return Export(chain, until, last_seal, canonical_json(header) + b"\n")


def export_lines(
    read: Callable[[Callable[[Transaction], list[bytes]]], list[bytes]], export: Export
) -> Iterator[bytes]:
    """Give an export's lines, page by page, each page in a short transaction of its own.

    Args:
        read: runs an action that only reads, such as ``Database.read``.
        export: what ``start_export`` has given.
    """
    yield export.header
    number = 0
    while number < export.entries:
        page = read(lambda tx, after=number: _entry_lines(tx, export, after))  # type: ignore[misc]
        yield from page
        if not page:
            break  # The record has a hole; the check will say where.
        number = int(json.loads(page[-1])["number"])
    number = 0
    while page := read(lambda tx, after=number: _seal_lines(tx, export, after)):  # type: ignore[misc]
        yield from page
        number = int(json.loads(page[-1])["seal"]["number"])


def _entry_lines(tx: Transaction, export: Export, after: int) -> list[bytes]:
    found = store.entries_after(tx, export.chain, after, export.entries)
    return [lines.entry_line(entry) for entry in found]


def _seal_lines(tx: Transaction, export: Export, after: int) -> list[bytes]:
    found = store.sealed_after(tx, export.chain, after, export.last_seal)
    return [
        seals.seal_line(
            payload_of(made),
            made.signature,
            {
                "number": head.number,
                "hash": head.hash,
                "leaf_index": head.leaf_index,
                "path": head.path,
            },
        )
        for made, head in found
    ]


def verify(
    read: Callable[[Callable[[Transaction], Any]], Any], key: SealKey, export: Export
) -> Verdict:
    """Check a chain as it stands in the database, from its first entry on.

    Call ``start_export`` before, in a transaction of its own: it seals what is new.
    """
    kept = read(store.public_keys)
    keys = {known.key_id: base64.b64decode(known.public_key) for known in kept}
    return verify_export(export_lines(read, export), keys | {key.key_id: key.public_key})
