"""Who holds what: pure decisions of the store on the nodes."""

import hashlib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.ground.errors import Fault, InvalidError
from millpond.storage.nodes.values import COPIES, Pace, Place, Receipt, State

RECEIPT_SECONDS = 1800.0
"""A receipt older than this is worth nothing: what it tells of may be deleted by now."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOG = re.compile(r"\.log/[0-9]{8}")
_BITS = 53


def is_digest(text: str) -> bool:
    """Tell whether a text is a sha256 in lower-case hexadecimal."""
    return _DIGEST.fullmatch(text) is not None


def is_log(key: str) -> bool:
    """Tell whether a key is a chunk of a log, which stays on the host."""
    return _LOG.search(key, max(0, len(key) - 13)) is not None


def state_of(
    place: Place,
    now: datetime,
    pace: Pace,
    listening_since: datetime,
    *,
    is_other_version: bool = False,
) -> State:
    """Tell whether a node is to be counted on.

    Args:
        place: what is known of it.
        now: by the database's clock.
        pace: how long silence is borne.
        listening_since: the host hears nodes since then; silence from before proves nothing.
        is_other_version: whether the node answers, and is refused for its version.
    """
    if not place.is_ok:
        return "lost"
    silent = (now - max(place.seen_at, listening_since)).total_seconds()
    if silent >= (max(pace.lost, pace.other_version) if is_other_version else pace.lost):
        return "lost"
    return "suspect" if silent >= pace.suspect else "up"


def score(seed: str, node: str, weight: float) -> float:
    """Give a node's rank for a seed: weighted rendezvous hashing, the highest is first.

    Each node's share of many seeds is proportional to its weight, and a node that comes or goes
    moves only its own share. Source: Schindelhauer and Schomaker, Weighted Distributed Hash
    Tables, 2005; the logarithmic method.
    """
    raw = hashlib.sha256(f"{seed}\n{node}".encode()).digest()
    share = ((int.from_bytes(raw[:8], "big") >> (64 - _BITS)) + 0.5) / 2**_BITS
    return weight / -math.log(share)


def rank(
    seed: str,
    places: Iterable[Place],
    *,
    size: int = 0,
    first: str = "",
    without: Collection[str] = (),
) -> list[Place]:
    """Order places by how well they suit a new copy; those without room are left out.

    Args:
        seed: the digest, or anything that is not always the same.
        places: those that are up.
        size: bytes that must fit.
        first: the node that made the bytes; it comes first when it has room.
        without: nodes that hold a copy already, or that have just failed.
    """
    fit = [
        place
        for place in places
        if place.is_ok
        and not place.is_draining
        and place.free_bytes > size
        and place.node not in without
    ]
    fit.sort(key=lambda each: (-score(seed, each.node, float(each.free_bytes)), each.node))
    fit.sort(key=lambda each: each.node != first)
    return fit


def check_receipts(
    receipts: Sequence[Receipt],
    objects: Mapping[str, int],
    *,
    now: datetime,
    living: Collection[str],
    least: int = COPIES,
) -> list[str]:
    """Give the nodes that hold all these objects when they are enough; else say every fault.

    Args:
        receipts: those whose signatures are good.
        objects: digest and size of each that must be held.
        now: UTC.
        living: nodes that are up, or merely suspect.
        least: how many different nodes there must be.

    Raises:
        InvalidError: they are too few, too old, or of other bytes.
    """
    faults: list[Fault] = []
    good: dict[str, None] = {}
    for number, receipt in enumerate(receipts):
        held = dict(receipt.objects)
        wrong = [digest for digest, size in objects.items() if held.get(digest) != size]
        age = abs(now.timestamp() - receipt.at)
        if wrong:
            text = f"{receipt.node} holds other bytes than were sent"
        elif age > RECEIPT_SECONDS:
            text = f"{receipt.node} signed it {age:,.0f} seconds ago or ahead"
        elif receipt.node not in living:
            text = f"{receipt.node} is lost since"
        elif receipt.node in good:
            text = f"{receipt.node} has signed another already"
        else:
            good[receipt.node] = None
            continue
        faults.append(Fault(f"receipts.{number}", text))
    if len(good) < least:
        raise InvalidError(
            f"{len(good)} of {least} nodes hold the object; nothing was stored.",
            next_step="Send it to other nodes, then commit again.",
            faults=faults or [Fault("receipts", f"{least} of different nodes are needed")],
        )
    return list(good)


@dataclass(frozen=True)
class Repair:
    """A copy that is to be made.

    Attributes:
        digest: of what.
        size: its bytes.
        sources: living nodes that hold it, the best first.
        targets: nodes that could take it, the best first.
    """

    digest: str
    size: int
    sources: Sequence[str]
    targets: Sequence[str]


def plan_repairs(
    holders: Mapping[str, tuple[int, Sequence[str]]],
    places: Sequence[Place],
    states: Mapping[str, State],
) -> list[Repair]:
    """Say what to copy, fewest living copies first; what has none is not among it.

    Args:
        holders: by digest, its size and the nodes with a good copy.
        places: all of them.
        states: by node.
    """
    known = {place.node: place for place in places}
    up = [place for place in places if states[place.node] == "up"]
    planned: list[tuple[int, Repair]] = []
    for digest, (size, nodes) in holders.items():
        living = [node for node in nodes if states.get(node, "lost") != "lost"]
        kept = [node for node in living if not known[node].is_draining]
        if not living or len(kept) >= COPIES:
            continue
        sources = sorted(living, key=lambda node: (states[node] != "up", node))
        targets = [each.node for each in rank(digest, up, size=size, without=living)]
        if targets:
            planned.append((len(kept), Repair(digest, size, sources, targets)))
    planned.sort(key=lambda entry: (entry[0], entry[1].digest))
    return [repair for _, repair in planned]


def pick_surplus(digest: str, nodes: Sequence[str], places: Mapping[str, Place]) -> str | None:
    """Name the node whose copy is one too many; None when there are no more than needed.

    Copies on nodes that are being emptied go first, then those where the digest ranks lowest.
    """
    kept = [node for node in nodes if node in places]
    if len(kept) <= COPIES:
        return None
    return max(
        kept,
        key=lambda node: (
            places[node].is_draining,
            -score(digest, node, float(max(1, places[node].free_bytes))),
            node,
        ),
    )
