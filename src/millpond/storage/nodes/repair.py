"""Keep two good copies of everything, and remove what nobody names: a thread of the server's.

Each round looks at who is there, asks those that came back what they hold, copies what has too few
copies (a living holder pushes), and deletes what is over. It decides nothing that `rules` does not.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import islice

from millpond.ground.errors import InvalidError, MillpondError, NotFoundError
from millpond.storage.database import Transaction
from millpond.storage.nodes import rules, store
from millpond.storage.nodes.ledger import Standing
from millpond.storage.nodes.looks import Look
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import COPIES, Held, Place

log = logging.getLogger("millpond.storage")

_PARALLEL, _BATCH, _LINES = 4, 200, 1000
_SCAN_SECONDS = 3600.0
_PROBE_BYTES = 64 << 10
_STRANGE_MOST = 100_000  # Of what nobody knows, a day: a node that lies must not fill the database.
_STOP_SECONDS = 30.0
_LONG_SECONDS, _SHARE = 0.2, 100


class Repairer:
    """Works in rounds until it is stopped."""

    def __init__(self, objects: NodeStore, parallel: int = _PARALLEL) -> None:
        """Prepare; nothing happens before ``start``."""
        self._database, self._ledger, self._client = (
            objects.database,
            objects.ledger,
            objects.client,
        )
        self._pool = ThreadPoolExecutor(parallel, "millpond-repair")
        self._waking, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="millpond-repairer", daemon=True)
        # What the last complete look at all digests saw; another look is due when it changes.
        self._seen: tuple[frozenset[str], frozenset[str]] | None = None
        self._seen_at = 0.0
        self._look: Look | None = None
        self._surplus_at = 0.0
        objects.reader.on_bad = self.wake

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; copies that are under way are ended by the nodes."""
        self._stopping.set()
        self._waking.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)
        self._pool.shutdown(cancel_futures=True)

    def wake(self) -> None:
        """Look at all digests soon: something is known to be wrong."""
        self._look_again()
        self._waking.set()

    def work_once(self) -> int:
        """Do one round; give how many copies were made."""
        self._take_inventories()
        self._look_at_bad()
        made = self._copy_few()
        if not self._database.read(self._ledger.guard):
            self._mark_unwanted()
            self._delete_marked()
        return made

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._waking.clear()
            try:
                self.work_once()
            except Exception:  # One of the loops that must go on: the next round may succeed.
                log.exception("A round of repairs failed")
            self._waking.wait(self._ledger.pace.look)

    def _standing(self) -> Standing:
        return self._database.read(self._ledger.standing)

    # Inventories -----------------------------------------------------------------------------

    def _take_inventories(self) -> None:
        for place in self._standing().up:
            try:
                if self._database.read(lambda tx, place=place: self._is_due(tx, place)):  # type: ignore[misc]
                    self._take_inventory(place)
            except MillpondError as fault:
                log.warning("No inventory of %s: %s", place.node, fault.message)

    def _is_due(self, tx: Transaction, place: Place) -> bool:
        at = place.inventory_at
        return at is None or at < store.ago(tx, self._ledger.pace.inventory)

    def _take_inventory(self, place: Place) -> None:
        started = self._database.read(lambda tx: tx.now)
        target = self._ledger.target(place, "INVENTORY")
        held, last = iter(self._client.inventory(target)), ""
        is_changed, strange = False, 0
        while strange < _STRANGE_MOST:
            part = list(islice(held, _LINES))
            # Beyond the last line nothing lies on the disk.
            end = part[-1].digest if len(part) == _LINES else None
            first, last = last, part[-1].digest if part else last

            def note(
                tx: Transaction, part: list[Held] = part, first: str = first, end: str | None = end
            ) -> bool:
                nonlocal strange
                is_other, new = _note_part(tx, place.node, part, (first, end), started)
                strange += new
                return is_other

            is_changed |= self._database.change(note)
            if end is None:
                break
        else:
            log.warning("%s holds very much that nobody knows; some was not looked at", place.node)
        self._database.change(lambda tx: store.update_place(tx, place.node, inventory_at=started))
        if is_changed:
            self._look_again()

    # Copies ----------------------------------------------------------------------------------

    def _look_at_bad(self) -> None:
        for place in self._standing().up:
            for digest in self._in_state("bad", place):
                with suppress(MillpondError):
                    self._judge(place, digest)

    def _in_state(self, state: str, place: Place) -> list[str]:
        """Give some copies on one node: what cannot be done there does not keep the others."""
        found = self._database.read(
            lambda tx: store.replicas_in(tx, state, node=place.node, limit=_BATCH)
        )
        return [digest for digest, _ in found]

    def _judge(self, place: Place, digest: str) -> None:
        """Let a node hash a suspicious file; forget the copy when it is not good."""
        if self._is_sound(place, digest, self._size_of(digest)):
            self._database.change(
                lambda tx: store.mark_replica(tx, digest, place.node, "ok", "bad")
            )
        else:
            log.warning("The copy of %s on %s is damaged or gone", digest, place.node)
            self._database.change(lambda tx: store.drop_replicas(tx, place.node, [digest]))
            self._look_again()

    def _copy_few(self) -> int:
        made = 0
        while not self._stopping.is_set():
            standing = self._standing()
            living = frozenset(standing.living)
            kept = living - {place.node for place in standing.places if place.is_draining}
            is_recent = time.monotonic() - self._seen_at < _SCAN_SECONDS
            if self._seen == (living, kept) and is_recent:
                break
            look = self._look
            if look is None or look.nodes != (living, kept):
                look = self._look = Look((living, kept), time.monotonic())
            planned = self._plan(self._database.read(partial(look.take, limit=_BATCH)), standing)
            done = sum(self._pool.map(partial(self._copy, standing), planned))
            made += done
            look.failed += len(planned) - done
            if look.is_over:
                self._end(look)
                break
            if planned and not done:
                break  # The next round goes on behind these, which are tried again after all.
        return made

    def _end(self, look: Look) -> None:
        """Rest when no more can be done as things stand: when they change it is tried again."""
        if self._look is look:
            self._look = None
            if not look.failed:
                self._seen, self._seen_at = look.nodes, look.at

    def _look_again(self) -> None:
        self._seen = self._look = None

    def _plan(self, few: dict[str, int], standing: Standing) -> list[rules.Repair]:
        copies = self._database.read(lambda tx: store.replicas_of(tx, few))
        holders = {
            digest: (size, [node for node, state in copies.get(digest, ()) if state == "ok"])
            for digest, size in few.items()
        }
        return rules.plan_repairs(holders, standing.places, standing.states)

    def _copy(self, standing: Standing, repair: rules.Repair) -> bool:
        """Make one copy; False when no holder could bring it to any other node."""
        places = {place.node: place for place in standing.places}
        for source in repair.sources:
            for node in repair.targets[:COPIES]:
                if self._stopping.is_set():
                    return False
                try:
                    self._push(repair, places[source], places[node])
                except NotFoundError:
                    self._database.change(
                        lambda tx, source=source: store.mark_replica(  # type: ignore[misc]
                            tx, repair.digest, source, "bad", "ok"
                        )
                    )
                    break
                except MillpondError as fault:
                    log.warning("No copy from %s to %s: %s", source, node, fault.message)
                else:
                    return True
        return False

    def _push(self, repair: rules.Repair, source: Place, target: Place) -> None:
        onward = self._ledger.target(target, "PUT", repair.digest, repair.size)
        allowed = self._ledger.target(source, "PUSH", repair.digest)
        signed = self._client.push(allowed, repair.digest, onward, repair.size)
        receipt = self._ledger.checker.check(signed)
        if dict(receipt.objects) != {repair.digest: repair.size}:
            raise InvalidError(
                f"The node {target.node!r} has received other bytes.", next_step="Look at it."
            )

        def note(tx: Transaction) -> None:
            known = store.lock_living(tx, [repair.digest])
            store.put_replicas(tx, [(repair.digest, target.node)], "ok" if known else "orphan")

        self._database.change(note)

    # What is over ----------------------------------------------------------------------------

    def _mark_unwanted(self) -> None:
        pace = self._ledger.pace

        def mark(tx: Transaction) -> None:
            store.doom(tx, store.ago(tx, pace.unnamed))
            store.begin_deleting(tx, store.ago(tx, pace.unnamed + pace.doomed), _BATCH)
            old = store.ago(tx, pace.orphan)
            for digest, node in store.replicas_in(tx, "orphan", before=old, limit=_BATCH):
                store.mark_replica(tx, digest, node, "deleting", "orphan")

        self._database.change(mark)
        for digest in self._list_surplus():
            with suppress(MillpondError):
                self._mark_surplus(digest)

    def _list_surplus(self) -> list[str]:
        """Look for it; where that takes long, a small share of the time is spent on it."""
        began = time.monotonic()
        if began < self._surplus_at:
            return []
        found = self._database.read(self._find_surplus)
        took = time.monotonic() - began
        if took > _LONG_SECONDS and len(found) < _BATCH:
            self._surplus_at = began + took * _SHARE
        return found

    def _find_surplus(self, tx: Transaction) -> list[str]:
        standing = self._ledger.standing(tx)
        up = {place.node for place in standing.up}
        kept = {place.node for place in standing.up if not place.is_draining}
        before = store.ago(tx, self._ledger.pace.surplus)
        return store.list_many(tx, up, kept, COPIES, before, _BATCH)

    def _mark_surplus(self, digest: str) -> None:
        """Mark the copy that is one too many, after two others were hashed anew."""
        places = {place.node: place for place in self._standing().up}
        copies = self._database.read(lambda tx: store.replicas_of(tx, [digest]))
        nodes = [node for node, state in copies.get(digest, ()) if state == "ok"]
        surplus = rules.pick_surplus(digest, nodes, places)
        if surplus is None:
            return
        stay = [node for node in nodes if node != surplus and node in places]
        size = self._size_of(digest)
        for node in stay:
            if not self._is_sound(places[node], digest, size):
                self._database.change(lambda tx: store.drop_replicas(tx, node, [digest]))  # noqa: B023 - runs at once.
                self._look_again()
                return
        if self._give_the_same([places[node] for node in stay], digest, size):
            self._database.change(
                lambda tx: store.mark_replica(tx, digest, surplus, "deleting", "ok")
            )

    def _size_of(self, digest: str) -> int:
        return self._database.read(lambda tx: store.sizes_of(tx, [digest])).get(digest, 0)

    def _is_sound(self, place: Place, digest: str, size: int) -> bool:
        return self._client.check(self._ledger.target(place, "CHECK", digest), digest, size)

    def _give_the_same(self, places: list[Place], digest: str, size: int) -> bool:
        """Tell whether nodes give the same bytes of a part that they could not foresee.

        Their word that they hold an object, and have hashed it, may be a lie.
        """
        length = min(size, _PROBE_BYTES)
        start, parts = secrets.randbelow(size - length + 1), set()
        for place in places if length else ():
            target, part = self._ledger.target(place, "GET", digest), bytearray()
            with self._client.reading(target, digest, start, length) as pieces:
                for piece in pieces:
                    part += piece
                    if len(part) > length:
                        break
            parts.add(bytes(part))
        is_same = len(parts) == 1 and all(len(part) == length for part in parts)
        if length and not is_same:
            nodes = " and ".join(place.node for place in places)
            log.warning("%s give different bytes of %s: nothing of it is deleted", nodes, digest)
        return is_same or not length

    def _delete_marked(self) -> None:
        standing = self._standing()
        places = {place.node: place for place in standing.places}
        marked = [
            (digest, place.node)
            for place in standing.places
            if standing.states[place.node] != "suspect"
            for digest in self._in_state("deleting", place)
        ]

        def delete(entry: tuple[str, str]) -> tuple[str, str] | None:
            digest, node = entry
            # A node that is away tells at its return what it still holds.
            if standing.states[node] != "lost":
                try:
                    self._client.delete(self._ledger.target(places[node], "DELETE", digest), digest)
                except MillpondError:  # It may have been left again lately: later, then.
                    return None
            return entry

        gone = [entry for entry in self._pool.map(delete, marked) if entry is not None]
        if gone or not marked:
            self._database.change(lambda tx: _forget(tx, gone))


def _forget(tx: Transaction, gone: Iterable[tuple[str, str]]) -> None:
    for digest, node in gone:
        store.drop_replicas(tx, node, [digest], ["deleting"])
    store.forget_deleted(tx)


def _note_part(
    tx: Transaction, node: str, part: list[Held], between: tuple[str, str | None], started: datetime
) -> tuple[bool, int]:
    """Compare a part of a node's inventory with what is known.

    Returns:
        Whether copies were lost, and how many there are of what nobody knows.
    """
    known = store.replicas_on(tx, node, *between)
    sizes = store.sizes_of(tx, (each.digest for each in part))
    found: dict[str, list[tuple[str, str]]] = {"ok": [], "bad": [], "orphan": []}
    for each in part:
        state = known.get(each.digest, ("", started))[0]
        if each.digest not in sizes:
            if state in ("", "ok", "bad"):
                found["orphan"].append((each.digest, node))
        elif sizes[each.digest] != each.size:
            found["bad"].append((each.digest, node))
        elif state in ("", "orphan"):
            found["ok"].append((each.digest, node))
    for state, copies in found.items():
        store.put_replicas(tx, copies, state)
    there = {each.digest for each in part}
    # What was noted after the node began to count may have come behind its back.
    gone = [d for d, (_, at) in known.items() if d not in there and at < started]
    store.drop_replicas(tx, node, gone)
    return bool(gone or found["bad"]), len(found["orphan"])
