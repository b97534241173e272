"""Bring the database's schema up to date, one server at a time.

A migration is a file ``migrations/versions/NNNN_title.py`` whose revision is ``NNNN``; the files'
names alone tell whether there is anything to do, so Alembic is loaded only when there is.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from millpond.ground.errors import ConflictError
from millpond.storage.database import Database, Transaction

log = logging.getLogger("millpond.storage")

_FOLDER = Path(__file__).with_name("migrations")
_LOCK = 7_301_002  # An advisory lock of PostgreSQL.


def known_revisions(folder: Path = _FOLDER) -> list[str]:
    """Give the revisions that this Millpond knows, oldest first."""
    return sorted(path.name[:4] for path in (folder / "versions").glob("[0-9]" * 4 + "_*.py"))


def upgrade(database: Database, folder: Path = _FOLDER) -> str:
    """Run the migrations that the database lacks, in one transaction; give its revision.

    Other servers that start meanwhile wait.

    Raises:
        ConflictError: the schema is of a newer Millpond.
        BusyError: the database does not answer.
    """
    known = known_revisions(folder)
    current = database.read(_read_revision)
    _refuse_newer(current, known)
    if current == known[-1]:
        return current
    with _alone(database) as tx:
        current = _read_revision(tx)
        _refuse_newer(current, known)
        if current != known[-1]:
            log.info(
                "Migrating the database", extra={"since": current or "nothing", "to": known[-1]}
            )
            _run(tx.connection, folder)
    return known[-1]


def _run(connection: sa.Connection, folder: Path) -> None:
    from alembic import command  # Loaded only when there is something to migrate.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _alone(database: Database) -> Iterator[Transaction]:
    """Open a transaction that keeps other servers from migrating.

    SQLite cannot rebuild a table that others refer to while it watches over references, so that
    watch is off meanwhile and everything is checked before the commit.
    """
    if not database.is_sqlite:
        with database.transaction() as tx:
            tx.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            yield tx
        return
    with database.unwatched() as tx:
        yield tx
        broken = tx.rows(sa.text("PRAGMA foreign_key_check"))
        if broken:
            tables = sorted({str(row[0]) for row in broken})
            raise ConflictError(
                f"The migration would break references in {', '.join(tables)}; nothing changed.",
                next_step="Keep the older Millpond running and report this with the log.",
            )


def _read_revision(tx: Transaction) -> str:
    if not sa.inspect(tx.connection).has_table("alembic_version"):
        return ""
    return str(tx.scalar(sa.text("SELECT version_num FROM alembic_version")) or "")


def _refuse_newer(current: str, known: list[str]) -> None:
    if current and current not in known:
        raise ConflictError(
            f"The database's schema is revision {current}, which this Millpond does not know (its"
            f" newest is {known[-1]}): a newer Millpond has used it.",
            next_step="Start that newer version, or restore a backup made before the upgrade.",
            revision=current,
            newest=known[-1],
        )
