"""What those who look after the server are told of its objects."""

from collections.abc import Iterator

from millpond.ground.errors import MillpondError
from millpond.ground.findings import Finding
from millpond.ground.units import size_text
from millpond.storage.claims import ATOMIC, UNTRIED
from millpond.storage.database import Transaction
from millpond.storage.moving.home import find_old
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import StoreHealth
from millpond.storage.port import ObjectStore
from millpond.storage.s3 import S3Store


def look_at_objects(objects: ObjectStore) -> Iterator[Finding]:
    """Tell what is special about a store beyond that it answers."""
    if isinstance(objects, S3Store):
        yield from _bucket(objects)
        if objects.race:
            yield _race(objects.race)
    if isinstance(objects, NodeStore):
        try:
            health = objects.database.read(objects.ledger.health)
        except MillpondError as fault:
            yield Finding("copies", "fault", fault.message, fault.next_step)
        else:
            yield from _copies(health)


def _bucket(objects: S3Store) -> Iterator[Finding]:
    try:
        next(objects.list(""), None)
    except MillpondError as fault:  # One object that is not there says nothing of the bucket.
        yield Finding("bucket", "fault", fault.message, fault.next_step)


def _race(shown: str) -> Finding:
    if shown == ATOMIC:
        return Finding("conditional writes", "ok", "the service lets one writer create a key")
    if shown.startswith(UNTRIED):
        return Finding(
            "conditional writes",
            "warning",
            f"the database decides who creates a key. Whether the service can is unknown: {shown}",
            "Mend what it says; the next start of the server tries it again.",
        )
    return Finding(
        "conditional writes",
        "ok",
        f"the database decides who creates a key, since of the service is known: {shown}",
    )


def _copies(health: StoreHealth) -> Iterator[Finding]:
    if health.guard:
        yield Finding(
            "backup",
            "warning",
            f"The database seems older than the nodes' disks: {health.guard}. Nothing is deleted.",
            "If it was restored from a backup on purpose, start the server once with"
            " objects.accept_restored; what the backup does not know is then deleted after a day.",
        )
    if health.shortage:
        yield Finding(
            "outputs",
            "warning",
            f"New data cannot be kept now, {health.shortage}; tasks wait with what they made",
            "They go on by themselves when two nodes with a data disk are up: bring one back or add"
            " one (`millpond node list`), or take data with one copy by objects.allow_one_copy.",
        )
    if health.missing:
        keys = ", ".join(health.missing_keys[:5])
        yield Finding(
            "copies",
            "fault",
            f"{health.missing:,} objects have no copy on a node that is there: {keys}",
            "Bring one of their nodes back; else run again what produced them.",
        )
    elif health.at_risk:
        yield Finding(
            "copies",
            "warning",
            f"{health.at_risk:,} objects have one copy only",
            "They are copied as soon as two nodes with free space are up.",
        )
    else:
        up = sum(1 for _, state in health.places if state == "up")
        free = sum(place.free_bytes for place, state in health.places if state == "up")
        text = f"two of everything; {up} of {len(health.places)} nodes up, {size_text(free)} free"
        yield Finding("copies", "ok", text)


def look_at_old_copy(tx: Transaction) -> Iterator[Finding]:
    """Tell of the copy that a move has left behind."""
    old = find_old(tx)
    if old is not None:
        yield Finding(
            "old copy",
            "ok",
            f"what was moved lies in {old.shown} too, as it was before",
            "When all is well, remove it on the server's machine: `millpond store remove-old`.",
        )
