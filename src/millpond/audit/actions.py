"""What can be done with the activity log: note a change, look, seal, export, verify."""

from typing import Any

from millpond.audit import proof, store
from millpond.audit.values import SITE_CHAIN
from millpond.ground.actor import Actor
from millpond.ground.canonical import digest_of
from millpond.storage.database import Transaction

_PENDING = "audit_pending"
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
            head = store.start_chain(tx, chain, proof.first_hash(chain))
        number, digest = head.number, head.hash
        for entry in entries:
            number += 1
            entry |= {"number": number, "previous_hash": digest}
            digest = entry["hash"] = proof.entry_hash(entry)
        store.add_entries(tx, entries)
        store.move_head(tx, chain, number, digest)
