"""When a node goes for good: what would be lost with its disk, and how it is forgotten."""

from millpond.ground.units import size_text
from millpond.storage.database import Transaction
from millpond.storage.nodes import store
from millpond.storage.nodes.values import COPIES, Pace


def why_not_removed(tx: Transaction, name: str) -> str:
    """Say why a node is still needed; empty when all it holds has two copies elsewhere."""
    fresh = store.ago(tx, Pace().lost)
    others = [
        place.node
        for place in store.list_places(tx)
        if place.node != name and place.is_ok and not place.is_draining and place.seen_at > fresh
    ]
    count, size = store.count_only_on(tx, name, others, COPIES)
    if not count:
        return ""
    return (
        f"{count:,} objects on it ({size_text(size)}) have fewer than {COPIES} copies"
        " on other nodes."
    )


def forget(tx: Transaction, name: str) -> None:
    """Forget a node that was removed, and the copies on it."""
    store.drop_place(tx, name)
