"""Moves an installation's objects to another store, on the server's own machine.

``python -m millpond.moving move|remove-old [--to KIND] [--data DIR] ...`` is what ``millpond
store`` starts. It answers in lines of JSON: first its plan, on which it waits for the line ``go``;
at the end what came of it.
"""

import argparse
import fcntl
import json
import os
import pwd
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from millpond.audit import actions as audit
from millpond.deploy.given import EXIT_CODES, find_settings
from millpond.ground.actor import SYSTEM
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
)
from millpond.ground.logs import set_up_logs
from millpond.ground.settings import ObjectsSettings, Settings, load_settings
from millpond.ground.settings_file import change_table, write_table
from millpond.ground.tls import Identity
from millpond.lake.values import digest_in
from millpond.machines.authority import Authority
from millpond.machines.revocations import RevokedList
from millpond.machines.trust.addresses import own_names
from millpond.machines.trust.rules import hosts_of
from millpond.storage import migrate
from millpond.storage.database import Transaction
from millpond.storage.locking import FolderLock
from millpond.storage.moving.ends import End, Site, check_settings, open_end
from millpond.storage.moving.home import check_home, find_home, find_old
from millpond.storage.moving.journal import Journal
from millpond.storage.moving.move import Choice, Move
from millpond.storage.moving.removing import Removal, no_old
from millpond.storage.moving.values import KINDS, Home, Moved, Step
from millpond.storage.opening import folder_of, open_database

_STEP_SECONDS = 0.2
_NOT_MEANT = 130
_OF_STORE = ("kind", "folder", "bucket", "endpoint", "region", "access_key_id",
             "secret_access_key", "allow_http", "prefix")  # fmt: skip


@dataclass(frozen=True)
class Desk:
    """What every action works with.

    Attributes:
        given: the command line.
        settings: the server's.
        path: the settings file.
        site: what stores are opened with.
        journal: of the moves of this data folder.
        is_alone: no server of this data folder runs, nor starts before the end.
    """

    given: argparse.Namespace
    settings: Settings
    path: Path
    site: Site
    journal: Journal
    is_alone: bool

    @property
    def moves(self) -> Path:
        """The folder of what a move keeps."""
        return self.site.data / "moves"


@contextmanager
def open_desk(given: argparse.Namespace) -> Iterator[Desk]:
    """Open what a move needs; one move at a time.

    Raises:
        ConflictError: another one is under way.
    """
    settings, data = find_settings(given, os.environ)
    set_up_logs(settings.server.log_level)
    if not (data / "keys").is_dir():
        raise NotFoundError(
            f"{data} is not the data folder of a server.",
            next_step="Name it: `--data DIR`; a new server needs no move.",
        )
    _check_user(data)
    with ExitStack() as stack:
        _lock(stack, data)
        is_alone = True
        try:
            lock = stack.enter_context(FolderLock(data))
            lock.tell("`millpond store`, which works on its objects")
        except ConflictError:
            is_alone = False
        database = open_database(settings.database, data)
        stack.callback(database.close)
        if is_alone:
            migrate.upgrade(database)
        journal = Journal(data / "moves" / "journal.db")
        stack.callback(journal.close)

        def identity() -> Identity:
            now = datetime.now(UTC)
            hosts = hosts_of(settings.server, settings.cluster, own_names())
            authority = Authority(data / "keys", now)
            return authority.open_identity(data / "cluster", "host", "host", hosts, now)

        revoked = RevokedList(database, data / "cluster" / "revoked.json")
        site = Site(data, database, identity, revoked.holds)
        path = given.settings or os.environ.get("MILLPOND_SETTINGS") or data / "settings.toml"
        yield Desk(given, settings, Path(path), site, journal, is_alone)


def _check_user(data: Path) -> None:
    """Refuse another user than the server's, who could not read what this one leaves."""
    owner = (data / "keys").stat().st_uid
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise NotAllowedError(
            f"The data folder {data} belongs to the user {name}, and so must all that a move"
            " writes there.",
            next_step=f"Call it as that user, for example with: sudo -u '{name}' millpond store"
            f" ... --data {data}",
        )


def _lock(stack: ExitStack, data: Path) -> None:
    folder = data / "moves"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = stack.enter_context((folder / "lock").open("w"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        raise ConflictError(
            "Another `millpond store` works on the objects now.",
            next_step="Wait for its end, or end it: what it has copied is kept.",
        ) from fault


@contextmanager
def open_move(desk: Desk) -> Iterator[tuple[Move, ObjectsSettings, ObjectsSettings]]:
    """Open both ends of a move; give it with the settings of both."""
    home = desk.site.database.read(find_home)
    target = replace(_table(desk.given.target, desk.settings), kind=desk.given.to)
    check_settings(target)
    source = _source_of(desk, home, target)
    with ExitStack() as stack:
        start = open_end(desk.site, source, target)
        stack.callback(start.close)
        _check_source(desk, start, home)
        end = open_end(desk.site, target, source)
        stack.callback(end.close)
        database, journal = desk.site.database, desk.journal
        move = Move(database, journal, start, end, note=_note, digest_in=digest_in)
        yield move, source, target


def _source_of(desk: Desk, home: Home | None, target: ObjectsSettings) -> ObjectsSettings:
    chosen = _table(desk.given.source, desk.settings)
    if home is not None and not (home.kind == "nodes" and target.kind == "nodes"):
        return replace(chosen, kind=home.kind)
    # What was left in the host's folder follows to the nodes.
    return replace(chosen, kind="folder") if target.kind == "nodes" else chosen


def _check_source(desk: Desk, start: End, home: Home | None) -> None:
    if home is None:
        folder = folder_of(start.chosen, desk.site.data)
        check_home(desk.site.database, start.chosen, folder, start.side.objects)
    elif start.chosen.kind == home.kind != "nodes" and start.home.id != home.id:
        raise ConflictError(
            f"This installation's objects lie in {home.shown}, which the settings do not name:"
            f" {start.where} is another one.",
            next_step="Write the settings that it was used with into a file, with the table"
            " [objects], and name it by `--source FILE`.",
        )


def move(desk: Desk) -> dict[str, Any]:
    """Look at both ends, ask, copy; switch when no server runs."""
    with open_move(desk) as (moving, source, target):
        if moving.is_done:
            moving.confirm()
            return asdict(Moved(0, 0, 0, (), is_switched=True, settings=_settle(desk, target)))
        choice = Choice(desk.is_alone, desk.given.leave_damaged, desk.given.anew)
        _ask(asdict(moving.plan(choice)))
        values = {name: getattr(source, name) for name in _OF_STORE}
        write_table(desk.moves / "old.toml", "objects", values)
        moved = moving.run(choice, _stepper())
        if moved.is_switched:
            moved = replace(moved, settings=_settle(desk, target))
        return asdict(moved)


def remove_old(desk: Desk) -> dict[str, Any]:
    """Say what a move has left behind, ask, and remove it."""
    with _open_removal(desk) as removal:
        old = removal.check()
        objects, size = desk.journal.count()
        _ask({"where": old.shown, "objects": objects, "size_bytes": size})
        removed = removal.run(_stepper())
    if not removed.waiting:
        (desk.moves / "old.toml").unlink(missing_ok=True)
        desk.journal.begin()
    return asdict(removed)


def _ask(plan: dict[str, Any]) -> None:
    """Tell what is about to be done, and go on only when a line says so."""
    _say({"plan": plan})
    if sys.stdin.readline().strip() != "go":
        sys.exit(_NOT_MEANT)


@contextmanager
def _open_removal(desk: Desk) -> Iterator[Removal]:
    kept = desk.moves / "old.toml"
    if desk.site.database.read(find_old) is None or not kept.exists():
        raise no_old()
    old, home = load_settings(kept, {}).objects, desk.settings.objects
    with ExitStack() as stack:
        here = open_end(desk.site, home, old)
        stack.callback(here.close)
        there = open_end(desk.site, old, home)
        stack.callback(there.close)
        yield Removal(desk.site.database, desk.journal, there, here, note=_note)


def _table(file: Path | None, settings: Settings) -> ObjectsSettings:
    """Give the table [objects] of a file of its own, or the server's."""
    return settings.objects if file is None else load_settings(file, {}).objects


def _settle(desk: Desk, target: ObjectsSettings) -> str:
    """Let the settings name the target; say in words what was done, or is to do by hand."""
    before = desk.settings.objects
    values = {
        name: getattr(target, name)
        for name in _OF_STORE
        if getattr(target, name) != getattr(before, name)
    }
    if not values:
        return f"The settings name {KINDS[target.kind]} already."
    is_there = desk.path.exists()
    try:
        change_table(desk.path, "objects", values)
    except (MillpondError, OSError) as fault:
        lines = ", ".join(name for name in values if not name.startswith("secret"))
        return (
            f"{desk.path} could not be changed ({fault}). Change the settings of [objects]"
            f" yourself before the server starts: {lines}."
        )
    variables = [name for name in values if f"MILLPOND_OBJECTS_{name.upper()}" in os.environ]
    if variables:
        named = ", ".join(f"MILLPOND_OBJECTS_{name.upper()}" for name in variables)
        return f"{desk.path} was changed; change {named} in the server's environment too."
    kept = f"; the file before is kept as {desk.path.name}.before" if is_there else ""
    return f"{desk.path} names it now{kept}."


def _note(tx: Transaction, verb: str, target: str, before: Any, after: Any) -> None:
    audit.note(tx, SYSTEM, verb, target, before=before, after=after)


def _stepper() -> Callable[[Step], None]:
    """Make what tells how far it is, a few times a second."""
    said = 0.0

    def step(told: Step) -> None:
        nonlocal said
        if time.monotonic() - said > _STEP_SECONDS:
            said = time.monotonic()
            _say({"step": asdict(told)})

    return step


@contextmanager
def _disk_told() -> Iterator[None]:
    """Say in words what the system says of this machine's disks."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as fault:
        raise BusyError(
            f"A disk of this machine does not do as it should: {fault}.",
            next_step="Look at its space and rights, and call this again: it goes on where it was.",
        ) from fault


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


ACTIONS: dict[str, Callable[[Desk], dict[str, Any]]] = {
    "move": move,
    "remove-old": remove_old,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one action; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m millpond.moving", description="Move objects.")
    parser.set_defaults(host=None, port=None, tls=False, insecure=False)
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument("--data", type=Path, help="folder of all data")
    parser.add_argument("--settings", type=Path, help="TOML file; default: DATA/settings.toml")
    parser.add_argument("--to", choices=sorted(KINDS), help="where the objects are to lie")
    parser.add_argument("--target", type=Path, help="TOML file with the [objects] of the target")
    parser.add_argument("--source", type=Path, help="TOML file with the [objects] of the source")
    parser.add_argument("--leave-damaged", action="store_true", help="switch without the damaged")
    parser.add_argument("--anew", action="store_true", help="forget a move to elsewhere")
    given = parser.parse_args(arguments)
    try:
        with _disk_told(), open_desk(given) as desk:
            _say({"done": ACTIONS[given.action](desk)})
    except MillpondError as fault:
        faults = [asdict(each) for each in fault.faults] if isinstance(fault, InvalidError) else []
        told = {"message": fault.message, "next_step": fault.next_step, "faults": faults}
        _say({"fault": told | {"status": fault.status}})
        return EXIT_CODES.get(fault.status, 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
