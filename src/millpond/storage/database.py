"""The database: SQLite or PostgreSQL, one transaction at a time, the database's own clock."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from millpond.ground.errors import BusyError

log = logging.getLogger("millpond.storage")

T = TypeVar("T")

NAMING = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = sa.MetaData(naming_convention=NAMING)
"""Every room's ``tables.py`` hangs its tables here."""

_WAIT_SECONDS = 15
_SQLITE_PRAGMAS = (
    f"busy_timeout={_WAIT_SECONDS * 1000}",
    "synchronous=FULL",  # An accepted request survives a power cut.
    "foreign_keys=ON",
)
_SERIALIZATION_FAILURES = ("40001", "40P01")  # PostgreSQL: serialization failure, deadlock.
_TRIES = 5
_REASONS: tuple[tuple[tuple[str, ...], tuple[str, ...], str], ...] = (
    (("28",), ("authentication failed", "password", 'role "'), "it refuses the server's sign-in"),
    (("3D",), ('database "',), "there is none of the name that the settings give"),
    (("53300",), ("too many clients",), "all of its connections are in use"),
    (("57P",), ("starting up", "shutting down"), "it is starting or stopping"),
    ((), ("is locked",), "another change has held it for too long"),
    ((), ("unable to open",), "its file cannot be opened"),
    ((), ("readonly", "read-only"), "it can only be read"),
    (
        ("08",),
        ("connection", "server closed", "could not translate", "resolve"),
        "it cannot be reached",
    ),
)
"""By PostgreSQL's state, or by a sign in the driver's text: what callers are told."""


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment in UTC, kept as microseconds since 1970, so that both databases compare alike."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Turn a moment with a zone into microseconds."""
        del dialect
        return None if value is None else to_microseconds(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Turn microseconds into a moment in UTC."""
        del dialect
        return None if value is None else from_microseconds(value)


def to_microseconds(moment: datetime) -> int:
    """Give whole microseconds since 1970 of a moment that carries a zone."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def from_microseconds(number: int) -> datetime:
    """Give the moment, in UTC, that lies so many microseconds after 1970."""
    return datetime.fromtimestamp(number // 1_000_000, UTC).replace(microsecond=number % 1_000_000)


class Transaction:
    """One transaction: statements, the database's time, and what to do around its commit."""

    def __init__(self, connection: sa.Connection, request_id: str) -> None:
        """Wrap an open connection on which a transaction has begun."""
        self.connection = connection
        self.request_id = request_id
        self._now: datetime | None = None
        self._before: dict[str, Callable[[], None]] = {}
        self._after: list[Callable[[], None]] = []
        self.kept: dict[str, Any] = {}

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite; only for statements that the two databases spell differently."""
        return self.connection.dialect.name == "sqlite"

    @property
    def now(self) -> datetime:
        """The database's clock, read once per transaction, in UTC."""
        if self._now is None:
            self._now = read_clock(self.connection)
        return self._now

    def execute(
        self,
        statement: sa.Executable,
        values: Sequence[dict[str, Any]] | dict[str, Any] | None = None,
    ) -> sa.CursorResult[Any]:
        """Run one statement, or one per set of values."""
        result = self.connection.execute(statement, values)
        assert isinstance(result, sa.CursorResult)  # noqa: S101 - narrows the type for mypy.
        return result

    def rows(self, statement: sa.Executable) -> Sequence[sa.Row[Any]]:
        """Fetch all rows of a query."""
        return self.connection.execute(statement).all()

    def one(self, statement: sa.Executable) -> sa.Row[Any] | None:
        """Fetch the first row of a query, or None."""
        return self.connection.execute(statement).first()

    def scalar(self, statement: sa.Executable) -> Any:
        """Fetch the first column of the first row, or None."""
        return self.connection.execute(statement).scalar()

    def insert_new(
        self, table: sa.Table, values: dict[str, Any], *columns: sa.Column[Any]
    ) -> sa.Row[Any] | None:
        """Insert a row unless one of its keys is taken; give these columns of it, or None.

        On PostgreSQL it waits for a transaction that is inserting the same key.
        """
        # Loaded when first used: the PostgreSQL one costs a tenth of a second of every start.
        if self.is_sqlite:
            from sqlalchemy.dialects.sqlite import insert as insert_sqlite

            statement: Any = insert_sqlite(table)
        else:
            from sqlalchemy.dialects.postgresql import insert as insert_postgresql

            statement = insert_postgresql(table)
        return self.one(
            statement.values(values).on_conflict_do_nothing().returning(*columns or table.c)
        )

    def before_commit(self, name: str, action: Callable[[], None]) -> None:
        """Do something last before the commit; a later action of the same name replaces it."""
        self._before[name] = action

    def after_commit(self, action: Callable[[], None]) -> None:
        """Do something once the transaction is committed, and only then."""
        self._after.append(action)

    def run_before_commit(self) -> None:
        """Run what was asked for before the commit, also what that asks for in turn."""
        while self._before:
            actions, self._before = self._before, {}
            for action in actions.values():
                action()

    def run_after_commit(self) -> None:
        """Run what was asked for after the commit."""
        for action in self._after:
            action()


class Database:
    """Opens transactions. Safe to share between threads; not between processes after a fork."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        """Connect lazily to ``sqlite:///PATH`` or ``postgresql://...`` (psycopg 3)."""
        address = sa.make_url(url)
        if address.drivername in ("postgresql", "postgres"):
            address = address.set(drivername="postgresql+psycopg")
        self.is_sqlite = address.get_backend_name() == "sqlite"
        options: dict[str, Any] = {"pool_size": pool_size, "max_overflow": 10}
        options["hide_parameters"] = True  # A fault's text goes into the log; hashes do not.
        if self.is_sqlite:
            options["connect_args"] = {"check_same_thread": False}
        else:
            options["pool_pre_ping"] = True
        self.engine = sa.create_engine(address, **options)
        self.watchers: list[Callable[[Transaction], None]] = []
        """Told of every transaction that this process has committed."""
        # SQLite lets writers of one process find each other by sleeping; a lock is fair and fast.
        self._writing = threading.Lock() if self.is_sqlite else None
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_immediately)

    @contextmanager
    def transaction(self, request_id: str = "") -> Iterator[Transaction]:
        """Open a transaction; it commits when the block ends and rolls back when it raises.

        Never do network or long work inside. On SQLite it takes the one write lock at once, so
        use ``read`` for queries.

        Raises:
            BusyError: the database cannot be reached, or stays locked for 15 seconds.
        """
        with _told_plainly(), self._turn(), self.engine.connect() as connection, connection.begin():
            transaction = Transaction(connection, request_id)
            yield transaction
            transaction.run_before_commit()
            # Committed: a fault in what comes after must not look like a failed change.
        transaction.run_after_commit()
        for watcher in self.watchers:
            watcher(transaction)

    @contextmanager
    def unwatched(self) -> Iterator[Transaction]:
        """Open a transaction of SQLite that does not watch over references; for migrations."""
        with _told_plainly(), self._turn(), self.engine.connect() as connection:
            raw = connection.connection.cursor()
            raw.execute("PRAGMA foreign_keys=OFF")  # Has no effect inside a transaction.
            try:
                with connection.begin():
                    yield Transaction(connection, "")
            finally:
                raw.execute("PRAGMA foreign_keys=ON")
                raw.close()

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Open a transaction that only reads: one snapshot, no lock, rolled back at the end."""
        options = {"millpond_reads": True}
        with (
            _told_plainly(),
            self.engine.connect().execution_options(**options) as connection,
            connection.begin() as begun,
        ):
            yield Transaction(connection, "")
            begun.rollback()

    def change(self, action: Callable[[Transaction], T], request_id: str = "") -> T:
        """Run an action in one transaction; repeat it when PostgreSQL asks for that.

        A serialization failure or a deadlock repeats the whole action, at most five times, so
        the action must have no effect outside the transaction.
        """
        for left in reversed(range(_TRIES)):
            try:
                with self.transaction(request_id) as tx:
                    return action(tx)
            except DBAPIError as fault:
                state = getattr(fault.orig, "sqlstate", None)
                if left == 0 or state not in _SERIALIZATION_FAILURES:
                    raise
                time.sleep(0.01 * (_TRIES - left))
        message = "unreachable"
        raise AssertionError(message)

    def read(self, action: Callable[[Transaction], T]) -> T:
        """Run an action that only reads."""
        with self.reading() as tx:
            return action(tx)

    def close(self) -> None:
        """Close every idle connection."""
        self.engine.dispose()

    def _turn(self) -> AbstractContextManager[None]:
        return _held(self._writing) if self._writing else nullcontext()


def read_clock(connection: sa.Connection) -> datetime:
    """Read the database's clock: for PostgreSQL its host's, for SQLite this machine's."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    number = connection.execute(
        sa.text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)")
    ).scalar_one()
    return from_microseconds(int(number))


@contextmanager
def _held(lock: threading.Lock) -> Iterator[None]:
    if not lock.acquire(timeout=_WAIT_SECONDS):
        raise _busy("another change has held it for too long")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_plainly() -> Iterator[None]:
    try:
        yield
    except PoolTimeoutError as fault:
        raise _busy("all of its connections are in use") from fault
    except DBAPIError as fault:
        state = getattr(fault.orig, "sqlstate", None) or ""
        text = str(fault.orig).strip() or "no answer"
        if state == "53100" or "disk is full" in text:
            log.warning("The database's disk is full", extra={"reason": text})
            raise BusyError(
                "The disk that holds the database is full; nothing was changed.",
                next_step="Free space there, then try again; `millpond doctor` on the server shows"
                " the space left.",
                retry_after_seconds=30.0,
            ) from fault
        if isinstance(fault, OperationalError) and state not in _SERIALIZATION_FAILURES:
            # It names addresses, users and files, which callers are not told.
            log.warning("The database failed", extra={"reason": text, "sqlstate": state})
            raise _busy(_plain_reason(state, text)) from fault
        raise


def _plain_reason(state: str, text: str) -> str:
    """Say in our own words why the database gave up; its text goes to the log alone."""
    words = text.lower()
    for states, signs, reason in _REASONS:
        if (state and state.startswith(states)) or any(sign in words for sign in signs):
            return reason
    return "it does not answer as it should"


def _busy(reason: str) -> BusyError:
    return BusyError(
        f"The database does not take requests now: {reason}.",
        next_step="Nothing was changed. Try again; if it goes on, have an administrator run"
        " `millpond doctor` on the server: its log tells what the database said.",
        retry_after_seconds=2.0,
    )


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # We begin transactions ourselves.
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    end = time.monotonic() + _WAIT_SECONDS
    while True:  # A change of the mode does not always wait for others who change it, too.
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as fault:
            if "locked" not in str(fault) or time.monotonic() > end:
                raise
            time.sleep(0.02)
        else:
            return


def _begin_immediately(connection: sa.Connection) -> None:
    reads = connection.get_execution_options().get("millpond_reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
