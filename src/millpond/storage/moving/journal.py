"""What a move has copied and verified, kept beside the data so that it goes on after any end."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TABLES = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS copied (
    key TEXT PRIMARY KEY, size INTEGER NOT NULL, digest TEXT NOT NULL, stamp TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Copied:
    """An object that lies at the target.

    Attributes:
        key: its key.
        size: in bytes.
        digest: sha256 of the bytes, that both sides gave.
        stamp: of the source's, when it was copied.
    """

    key: str
    size: int
    digest: str
    stamp: str


class Journal:
    """A file of its own: it may grow to a row for each object, and goes with the old copy."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it; what was written before a power cut is whole."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(_TABLES)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def fact(self, name: str) -> str:
        """Give what is kept under a name; empty when there is nothing."""
        row = self._db.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row[0])

    def put_fact(self, name: str, value: str) -> None:
        """Keep something under a name."""
        self._db.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def begin(self) -> None:
        """Forget everything: another move begins."""
        self._db.execute("DELETE FROM copied")
        self._db.execute("DELETE FROM fact")

    def add(self, objects: Iterable[Copied]) -> None:
        """Keep what was copied and verified."""
        rows = [(each.key, each.size, each.digest, each.stamp) for each in objects]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO copied VALUES (?, ?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def drop(self, key: str) -> None:
        """Forget an object."""
        self._db.execute("DELETE FROM copied WHERE key = ?", (key,))

    def find(self, key: str) -> Copied | None:
        """Give what is known of an object."""
        row = self._db.execute("SELECT * FROM copied WHERE key = ?", (key,)).fetchone()
        return None if row is None else Copied(*row)

    def list(self) -> Iterator[Copied]:
        """Give all, in the order of the keys; changes meanwhile are seen or not."""
        after = ""
        query = "SELECT * FROM copied WHERE key > ? ORDER BY key LIMIT 1000"
        while page := self._db.execute(query, (after,)).fetchall():
            yield from (Copied(*row) for row in page)
            after = page[-1][0]

    def count(self) -> tuple[int, int]:
        """Give how many objects there are, and how large they are together."""
        row = self._db.execute("SELECT count(*), coalesce(sum(size), 0) FROM copied").fetchone()
        return int(row[0]), int(row[1])
