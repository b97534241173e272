import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import sqlalchemy as sa

from millpond.ground.errors import BusyError
from millpond.storage import events
from millpond.storage.database import Database, from_microseconds, to_microseconds


def test_commits_and_rolls_back(database):
    with database.transaction() as tx:
        events.publish(tx, project_id="p1", topic="t", kind="kept")

    def fail(tx):
        events.publish(tx, project_id="p1", topic="t", kind="lost")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.change(fail)
    with database.reading() as tx:
        assert [event.kind for event in events.after(tx, 0, project_id="p1")] == ["kept"]


def test_runs_what_was_asked_for_after_the_commit_and_only_then(database):
    said = []
    with database.transaction() as tx:
        tx.before_commit("a", lambda: said.append("before"))
        tx.before_commit("a", lambda: said.append("before, replaced"))
        tx.after_commit(lambda: said.append("after"))
        said.append("inside")

    def fail(tx):
        tx.after_commit(lambda: said.append("never"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        database.change(fail)
    assert said == ["inside", "before, replaced", "after"]


def test_reading_changes_nothing(database):
    with database.reading() as tx:
        tx.execute(
            events.live_event.insert(),
            {"project_id": "p", "topic": "t", "kind": "k", "facts": {}, "at": tx.now},
        )
    assert database.read(events.last_number) == 0


def test_the_clock_is_the_databases_and_stands_still_in_a_transaction(database):
    with database.reading() as tx:
        first = tx.now
        assert tx.now is first
        assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC),
    ],
)
def test_moments_survive_to_the_microsecond(moment):
    assert from_microseconds(to_microseconds(moment)) == moment


def test_event_numbers_rise_in_the_order_of_commits(database):
    def publish(who):
        for number in range(10):
            database.change(
                lambda tx, n=number: events.publish(
                    tx, project_id="p", topic=who, kind="k", facts={"n": n}
                )
            )

    threads = [threading.Thread(target=publish, args=(f"t{who}",)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        found = events.after(tx, 0, project_id="p")
        assert len(found) == 30
        for who in range(3):
            one = events.after(tx, 0, project_id="p", topic=f"t{who}")
            assert [event.facts["n"] for event in one] == list(range(10))
        assert events.after(tx, 0, project_id="other") == []


def test_an_unreachable_database_is_busy(tmp_path):
    lost = Database(f"sqlite:///{tmp_path / 'no' / 'folder' / 'x.db'}")
    with pytest.raises(BusyError, match="does not take requests now") as caught:
        lost.read(events.last_number)
    assert caught.value.retry_after_seconds > 0
    lost.close()


@pytest.mark.parametrize(
    ("user", "name", "port", "reason"),
    [
        ("mallory", "postgres", None, "it refuses the server's sign-in"),
        ("millpond", "no_such_lake", None, "there is none of the name that the settings give"),
        ("millpond", "postgres", 1, "it cannot be reached"),
    ],
)
def test_callers_are_told_in_our_words_and_the_log_has_the_databases(
    postgresql, caplog, user, name, port, reason
):
    port = port or postgresql.port
    lost = Database(f"postgresql://{user}:hunter2-word@127.0.0.1:{port}/{name}")
    with pytest.raises(BusyError) as caught:
        lost.read(events.last_number)
    lost.close()
    fault = caught.value
    assert fault.message == f"The database does not take requests now: {reason}."
    assert "millpond doctor" in fault.next_step
    told = f"{fault.message} {fault.next_step} {fault.facts}"
    for word in ("mallory", "no_such_lake", "127.0.0.1", "FATAL", "hunter2-word"):
        assert word not in told
    (record,) = [record for record in caplog.records if record.name == "millpond.storage"]
    assert "127.0.0.1" in record.reason
    assert "hunter2-word" not in record.reason


def test_a_lost_connection_is_busy_and_the_next_request_works(postgresql):
    with postgresql.database(empty=False) as url:
        database = Database(url)

        def lose(tx):
            me = tx.scalar(sa.text("SELECT pg_backend_pid()"))
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (me,))
            tx.scalar(sa.text("SELECT 1"))

        with pytest.raises(BusyError):
            database.change(lose)
        assert database.read(events.last_number) == 0
        database.close()


def test_a_full_disk_is_busy_with_its_own_next_step(tmp_path, sqlite_template):
    path = tmp_path / "full.db"
    path.write_bytes(sqlite_template.read_bytes())
    database = Database(f"sqlite:///{path}")
    with sqlite3.connect(path) as raw:
        pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.close()

    def fill(tx):
        tx.execute(sa.text(f"PRAGMA max_page_count={pages}"))
        events.publish(tx, project_id="p", topic="t", kind="k", facts={"text": "x" * 1_000_000})

    with pytest.raises(BusyError, match="full") as caught:
        database.change(fill)
    assert "space" in caught.value.next_step
    assert database.read(events.last_number) == 0
    database.close()
