"""Remove the copy that a move has left behind, and nothing that the store in use does not hold."""

from dataclasses import dataclass, replace

from millpond.ground.errors import ConflictError, NotFoundError
from millpond.storage.database import Database, Transaction
from millpond.storage.moving.ends import End
from millpond.storage.moving.home import MARKER, drop_old, find_home, find_old, read_marker
from millpond.storage.moving.journal import Journal
from millpond.storage.moving.move import STATE, SWITCHED, Note
from millpond.storage.moving.mover import merged
from millpond.storage.moving.values import Home, OnStep, Step
from millpond.storage.nodes import store
from millpond.storage.nodes.repair import Repairer
from millpond.storage.nodes.replicated import NodeStore
from millpond.storage.nodes.values import COPIES
from millpond.storage.port import ObjectInfo

_AT_ONCE = 1000


@dataclass(frozen=True)
class Removed:
    """What was removed.

    Attributes:
        where: from where.
        objects: how many objects.
        size_bytes: how large they were together.
        kept: how many stay there, because the store in use does not hold them: they were deleted
            since the move, or are damaged.
        waiting: how many a node could not delete yet.
    """

    where: str
    objects: int
    size_bytes: int
    kept: int
    waiting: int = 0


class Removal:
    """Removes an old copy; may be ended at any moment and called again."""

    def __init__(
        self, database: Database, journal: Journal, old: End, home: End, *, note: Note
    ) -> None:
        """Prepare to remove what lies at ``old`` and at ``home`` too."""
        self._database, self._journal, self._note = database, journal, note
        self._old, self._home = old, home

    def check(self) -> Home:
        """Give the old copy.

        Raises:
            ConflictError: there is none, or the store in use does not hold all as it should.
        """
        old, home = self._database.read(find_old), self._database.read(find_home)
        if old is None or home is None or self._journal.fact(STATE) != SWITCHED:
            raise no_old()
        if self._old.home.id != old.id or self._old.chosen.kind != old.kind:
            raise no_old()
        if isinstance(self._old.side.objects, NodeStore):
            self._check_guard(self._old.side.objects)
        self._home.side.check_reading()
        if home.kind != "nodes" and read_marker(self._home.side.objects) != home.id:
            raise ConflictError(
                f"{home.where} is not the store that holds this installation's objects.",
                next_step="Mend the settings of [objects]; nothing was removed.",
            )
        if isinstance(self._home.side.objects, NodeStore):
            self._check_copies(self._home.side.objects)
        return old

    def run(self, on_step: OnStep) -> Removed:
        """Remove all that was moved and that the store in use holds."""
        old = self.check()
        objects = size = 0
        total = self._journal.count()[0]
        moved = (ObjectInfo(each.key, each.size) for each in self._journal.list())
        for key, (was, here) in merged(moved, self._home.side.list()):
            if was is None or here is None or here.size != was.size:
                continue
            self._old.side.delete(key)
            self._journal.drop(key)
            objects, size = objects + 1, size + was.size
            if objects % _AT_ONCE == 0:
                on_step(Step("Removing", objects, total, "objects"))
        kept = sum(1 for _ in self._old.side.list())
        waiting = 0
        if isinstance(self._old.side.objects, NodeStore):
            waiting = self._empty_nodes(self._old.side.objects, on_step)
        elif not kept and not self._old.is_shared:
            self._old.side.objects.delete(MARKER)
        if not waiting:
            self._database.change(lambda tx: self._settle(tx, old, objects))
        return Removed(old.shown, objects, size, kept, waiting)

    def _settle(self, tx: Transaction, old: Home, objects: int) -> None:
        drop_old(tx)
        after = {"objects": objects}
        self._note(tx, "objects.old_copy.removed", f"store/{old.kind}", old.to_json(), after)

    def _check_guard(self, objects: NodeStore) -> None:
        if why := self._database.read(objects.ledger.guard):
            raise ConflictError(
                f"The database seems older than the nodes' disks: {why}. Nothing is removed.",
                next_step="If it was restored from a backup on purpose, start the server once with"
                " objects.accept_restored, then call this again.",
            )

    def _check_copies(self, objects: NodeStore) -> None:
        def count(tx: Transaction) -> tuple[int, int]:
            return store.count_few(tx, objects.ledger.standing(tx).living, COPIES)

        few, _ = self._database.read(count)
        if few:
            raise ConflictError(
                f"{few:,} objects on the nodes have fewer than {COPIES} copies; nothing was"
                " removed.",
                next_step="Let the server run until `millpond system health` says that there are"
                " two of everything, then call this again.",
            )

    def _empty_nodes(self, objects: NodeStore, on_step: OnStep) -> int:
        """Delete bytes that no key names any more; give how many could not be deleted yet."""
        pace = objects.ledger.pace
        objects.ledger.pace = replace(pace, unnamed=-1.0, doomed=0.0)
        repairer = Repairer(objects)
        left = total = self._database.read(store.count_unnamed)
        try:
            while left:
                on_step(Step("Removing from the nodes", total - left, total, "objects"))
                repairer.work_once()
                repairer.work_once()  # What is doomed by one round is deleted by the next.
                now = self._database.read(store.count_unnamed)
                if now >= left:
                    break
                left = now
        finally:
            repairer.stop()
            objects.ledger.pace = pace
        return left


def no_old() -> NotFoundError:
    """Make the error for an installation without an old copy."""
    return NotFoundError(
        "There is no copy that a move has left behind.",
        next_step="`millpond store move` makes one, and keeps it until this command.",
    )
