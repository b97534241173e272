"""A move of an installation's objects: looked at first, copied, compared, switched."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from millpond.ground.errors import ConflictError
from millpond.storage.database import Database, Transaction
from millpond.storage.moving.ends import End
from millpond.storage.moving.home import find_home, find_old, make_marker, put_home, read_marker
from millpond.storage.moving.journal import Journal
from millpond.storage.moving.mover import Mover
from millpond.storage.moving.values import Home, Moved, OnStep, Plan

MOVE, STATE, SWITCHED = "move", "state", "switched"
_BLOCK_BYTES = 4096
_ROUNDS = 3


class Note(Protocol):
    """Writes an entry of the activity log."""

    def __call__(self, tx: Transaction, verb: str, target: str, before: Any, after: Any) -> None:
        """Write it."""
        ...


@dataclass(frozen=True)
class Choice:
    """How a move is meant.

    Attributes:
        is_alone: no server uses the objects, nor will before the end.
        leave_damaged: switch although some objects could not be moved.
        anew: forget a move to elsewhere that was begun.
    """

    is_alone: bool
    leave_damaged: bool = False
    anew: bool = False


class Move:
    """Brings the objects from one end to the other."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        source: End,
        target: End,
        *,
        note: Note,
        digest_in: Callable[[str], str],
    ) -> None:
        """Prepare; nothing happens yet.

        Args:
            database: migrated.
            journal: of this installation's moves.
            source: where the objects lie.
            target: where they are to lie.
            note: writes into the activity log.
            digest_in: gives the sha256 that a key says its bytes have; empty when it says none.
        """
        self._database, self._journal, self._note = database, journal, note
        self._source, self._target = source, target
        self._mover = Mover(source.side, target.side, journal, digest_in=digest_in)

    @property
    def is_done(self) -> bool:
        """Whether the objects lie at the target already."""
        home = self._database.read(find_home)
        if home is None or home.kind != self._target.chosen.kind or self._is_rest:
            return False
        return home.kind == "nodes" or read_marker(self._target.side.objects) == home.id

    def plan(self, choice: Choice) -> Plan:
        """Look at both ends and find out what there is to do; nothing is copied.

        Raises:
            MillpondError: it cannot be done as things are; nothing was changed.
        """
        self._source.side.check_reading()
        self._target.side.check()
        self._begin(choice)
        # The folder of nodes' host holds what is theirs too, and nodes what the rest belongs to.
        may_hold_more = self._target.is_shared and (self._source.chosen.kind == "nodes")
        if not (may_hold_more or self._is_rest or self._is_ours()):
            self._mover.check_strangers()
        objects, size, left, left_bytes = self._mover.survey()
        room = self._target.side.room()
        plan = Plan(
            source=self._source_home.shown,
            target=Home(self._target.chosen.kind, "", self._target.where).shown,
            objects=objects,
            size_bytes=size,
            left_objects=left,
            left_bytes=left_bytes,
            room_bytes=room,
            is_running=not choice.is_alone,
            stays=f"Logs stay in {self._folder_shown()}." if self._target.is_shared else "",
        )
        if room is not None and left_bytes + left * _BLOCK_BYTES > room:
            raise ConflictError(
                f"There is too little room in {plan.target}: {left:,} objects of {left_bytes:,}"
                f" bytes are to come, and {room:,} bytes fit.",
                next_step="Free space there, add a disk or a node, or take another target; nothing"
                " was changed.",
            )
        return plan

    def run(self, choice: Choice, on_step: OnStep) -> Moved:
        """Copy what is not there; switch when all is, and nobody writes meanwhile.

        Raises:
            MillpondError: the target refuses; what was copied is kept for the next call.
        """
        self._begin(choice)
        known = self._source_home
        if self._target.chosen.kind != "nodes":
            make_marker(self._target.side.objects)
        self._mover.copy(on_step)
        if not choice.is_alone:
            return self._moved(is_switched=False)
        for _ in range(_ROUNDS):
            wrong = self._mover.settle(on_step, lambda: self._check_there(known))
            if not wrong:
                break
            self._mover.copy(on_step)
        else:
            raise ConflictError(
                f"{len(wrong):,} objects are not at the target as they should be, such as"
                f" {wrong[0]}; nothing was switched.",
                next_step="See that nothing else writes to either store, then call it again.",
            )
        if self._mover.damaged and not choice.leave_damaged:
            return self._moved(is_switched=False)
        self._switch()
        return self._moved(is_switched=True)

    def confirm(self) -> None:
        """Note in the journal that all is switched: the last call was ended just before."""
        self._journal.put_fact(STATE, SWITCHED)

    # Within ------------------------------------------------------------------------------------

    @property
    def _is_rest(self) -> bool:
        """Whether what was left in the host's folder follows to the nodes."""
        home = self._database.read(find_home)
        return home is not None and home.kind == "nodes" and self._source.chosen.kind == "folder"

    def _check_there(self, known: Home) -> None:
        """Refuse to go on when the source is another one now, as after its disk was unmounted."""
        self._source.side.check_reading()
        if self._source_home != known:
            raise ConflictError(
                f"What lay in {known.shown} is not there any more; nothing was switched.",
                next_step="Mount its disk again, and call this again: it goes on where it was.",
            )

    @property
    def _source_home(self) -> Home:
        return self._source.home

    def _folder_shown(self) -> str:
        folder = self._target if self._target.chosen.kind == "folder" else self._source
        return folder.where

    def _begin(self, choice: Choice) -> None:
        """Go on with the journal of this very move, or begin one."""
        source, target = self._source_home, self._target.home
        this = json.dumps([source.kind, source.id, target.kind, target.where])
        known, state = self._journal.fact(MOVE), self._journal.fact(STATE)
        if known == this and state != SWITCHED:
            return
        old = self._database.read(find_old)
        if old is not None and not self._is_ours() and not self._is_rest:
            raise ConflictError(
                f"The copy in {old.shown} is still kept from the move before.",
                next_step="Remove it first: `millpond store remove-old`; then call this again.",
            )
        if known and known != this and state != SWITCHED and not choice.anew:
            kind, where = json.loads(known)[2:]
            raise ConflictError(
                f"A move to {Home(kind, '', where).shown} was begun and is not finished.",
                next_step=f"Finish it (`millpond store move --to {kind}`), or add --anew to forget"
                " it: what it has copied stays there until you delete it.",
            )
        self._journal.begin()
        self._journal.put_fact(MOVE, this)

    def _is_ours(self) -> bool:
        """Tell whether the target is the store that the objects were moved from before."""
        old, kind = self._database.read(find_old), self._target.chosen.kind
        if old is None or old.kind != kind:
            return False
        return kind == "nodes" or read_marker(self._target.side.objects) == old.id

    def _switch(self) -> None:
        home, old = self._target.home, self._source_home

        def switch(tx: Transaction) -> None:
            put_home(tx, home, old)
            self._note(tx, "objects.moved", f"store/{home.kind}", old.to_json(), home.to_json())

        self._database.change(switch)
        self._journal.put_fact(STATE, SWITCHED)

    def _moved(self, *, is_switched: bool) -> Moved:
        objects, size = self._journal.count()
        mover = self._mover
        return Moved(objects, size, mover.copied, mover.damaged, is_switched)
