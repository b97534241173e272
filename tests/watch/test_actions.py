"""Meters from the sample to the series, on both databases; time is in the rows, not waited for."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from millpond.ground.actor import Actor
from millpond.ground.errors import NotAllowedError, NotFoundError
from millpond.storage.database import Database, Transaction
from millpond.watch import actions, rules, store
from millpond.watch.recording import Recorder
from millpond.watch.tables import meters
from millpond.watch.values import LEVELS, RANGES, Line, Monitor

Sample = dict[str, Any]

ROOT = Actor("user_root", "root", is_admin=True)
FINE, MINUTES, QUARTERS = LEVELS


def fill(database: Database, node: str, back: timedelta, until: timedelta, cpu: float) -> int:
    """Write five-second rows from so long ago until so long ago."""

    def write(tx: Transaction) -> int:
        begin = rules.begin_of((tx.now - back).timestamp(), 5)
        end = rules.begin_of((tx.now - until).timestamp(), 5)
        flat = {"cpu": cpu, "memory_total": 100}
        actions.keep(tx, {(node, second): flat for second in range(begin, end, 5)})
        return (end - begin) // 5

    return database.change(write)


def count(database: Database, level: Any, node: str) -> int:
    query = sa.select(sa.func.count()).where(
        meters.c.resolution == level.seconds, meters.c.node == node
    )
    return int(database.read(lambda tx: tx.scalar(query)))


def line(found: Monitor, node: str, meter: str) -> Line:
    (series,) = [each for each in found.nodes if each.node == node]
    return next(each for each in series.lines if each.meter == meter)


def test_what_a_machine_tells_is_shown(database: Database, sample: Sample) -> None:
    recorder = Recorder(database, lambda: sample)
    assert recorder.note("local", sample) == ""
    assert recorder.note("a", {**sample, "cpu": 0.25}) == ""
    recorder.write()
    found = database.read(lambda tx: actions.get_monitor(tx, ROOT, "15m"))
    assert [each.node for each in found.nodes] == ["local", "a"]
    now = found.nodes[1].now
    assert now is not None
    assert now.is_fresh
    assert now.cpu_share == 0.25
    assert now.disks[0].mount == "/data:2"
    assert [value for value in line(found, "a", "cpu").means if value is not None] == [0.25]
    assert recorder.newest()["a"]["cpu"] == 0.25


def test_a_node_that_lies_is_named_and_the_others_are_kept(
    database: Database, sample: Sample
) -> None:
    recorder = Recorder(database, None)
    recorder.note("a", sample)
    assert "cpu is 7" in recorder.note("a", {**sample, "cpu": 7})
    recorder.note("b", sample)
    recorder.write()
    found = database.read(lambda tx: actions.get_monitor(tx, ROOT, "15m", faults=recorder.faults()))
    told = {each.node: each.now.fault for each in found.nodes if each.now}
    assert "cpu is 7" in told["a"]
    assert told["b"] == ""
    recorder.note("a", sample)
    assert not recorder.faults()


def test_the_same_five_seconds_are_kept_once(database: Database) -> None:
    with database.transaction() as tx:
        actions.keep(tx, {("a", 1_700_000_000): {"cpu": 0.1}})
    with database.transaction() as tx:
        actions.keep(tx, {("a", 1_700_000_000): {"cpu": 0.9}, ("a", 1_700_000_005): {"cpu": 0.2}})
    assert count(database, FINE, "a") == 2


def test_what_cannot_be_written_is_written_later(database: Database, sample: Sample) -> None:
    recorder = Recorder(database, None)
    recorder.note("a", sample)
    with database.transaction() as tx:
        tx.execute(sa.text("ALTER TABLE meters RENAME TO meters_away"))
    recorder.write()
    with database.transaction() as tx:
        tx.execute(sa.text("ALTER TABLE meters_away RENAME TO meters"))
    assert count(database, FINE, "a") == 0
    recorder.write()
    assert count(database, FINE, "a") == 1


def test_fine_rows_become_coarse_ones_and_are_forgotten(database: Database) -> None:
    fill(database, "a", timedelta(minutes=50), timedelta(minutes=10), 0.5)
    fill(database, "a", timedelta(minutes=10), timedelta(minutes=0), 0.9)
    fill(database, "b", timedelta(hours=3), timedelta(hours=2), 0.5)
    with database.transaction() as tx:
        actions.tidy(tx)
    minutes = count(database, MINUTES, "a")
    assert 48 <= minutes <= 51
    assert 2 <= count(database, QUARTERS, "a") <= 4
    with database.transaction() as tx:
        actions.tidy(tx)
    assert count(database, MINUTES, "a") - minutes in (0, 1), "folding again adds nothing"
    rows = database.read(
        lambda tx: store.read(tx, MINUTES, tx.now - timedelta(hours=1), tx.now, "a")
    )
    assert {rules.mean_and_peak(figures["cpu"])[1] for _, _, figures in rows} == {0.5, 0.9}
    assert {figures["memory_total"] for _, _, figures in rows} == {100}
    # What is older than an hour goes, also where it was never folded.
    assert count(database, FINE, "b") == 0
    assert count(database, FINE, "a") > 580


def test_each_level_is_kept_for_its_time(database: Database) -> None:
    def write(tx: Transaction) -> None:
        for level in LEVELS:
            for late in (timedelta(hours=-1), timedelta(hours=1)):
                at = tx.now - level.kept + late * (level.seconds / 900)
                store.add(tx, "a", level.seconds, at, {"cpu": 0.5})

    database.change(write)
    with database.transaction() as tx:
        for level in LEVELS:
            assert store.forget(tx, level, tx.now - level.kept) == 1
        assert store.size(tx)[0] == 3


def test_a_long_range_shows_what_is_not_folded_yet(database: Database) -> None:
    fill(database, "a", timedelta(minutes=10), timedelta(minutes=0), 0.5)
    for wanted in RANGES:
        found = database.read(partial(actions.get_monitor, actor=ROOT, wanted=wanted))
        known = [value for value in line(found, "a", "cpu").means if value is not None]
        assert set(known) == {0.5}
        assert len(found.begins) == len(line(found, "a", "cpu").means)
        assert len(line(found, "a", "cpu").peaks) == len(found.begins)


def test_no_row_counts_twice(database: Database) -> None:
    """Minutes that are folded hide the rows they were made of."""
    fill(database, "a", timedelta(minutes=40), timedelta(minutes=0), 0.25)

    def spoil(tx: Transaction) -> None:
        actions.tidy(tx)
        folded = store.newest_at(tx, MINUTES)["a"]
        before = (meters.c.resolution == 5) & (meters.c.at < folded)
        tx.execute(meters.update().where(before).values(figures='{"cpu":1}'))

    database.change(spoil)
    found = database.read(lambda tx: actions.get_monitor(tx, ROOT, "1h"))
    assert {value for value in line(found, "a", "cpu").means if value is not None} == {0.25}


def test_one_node_is_shown_in_finer_steps(database: Database) -> None:
    fill(database, "a", timedelta(minutes=10), timedelta(0), 0.5)
    fill(database, "b", timedelta(minutes=10), timedelta(0), 0.5)
    whole = database.read(lambda tx: actions.get_monitor(tx, ROOT, "15m"))
    one = database.read(lambda tx: actions.get_monitor(tx, ROOT, "15m", node="a"))
    assert [each.node for each in one.nodes] == ["a"]
    assert one.step_seconds < whole.step_seconds


def test_a_node_of_which_nothing_is_kept_is_not_there(database: Database) -> None:
    with pytest.raises(NotFoundError, match="No meters of a node 'x' are kept"):
        database.read(lambda tx: actions.get_monitor(tx, ROOT, node="x"))


def test_a_node_that_fell_silent_is_shown_as_it_was(database: Database) -> None:
    fill(database, "a", timedelta(minutes=10), timedelta(minutes=5), 0.5)
    found = database.read(lambda tx: actions.get_monitor(tx, ROOT, "15m"))
    now = found.nodes[0].now
    assert now is not None
    assert not now.is_fresh
    assert datetime.now(UTC) - now.at > timedelta(minutes=4)
    assert line(found, "a", "cpu").means[-1] is None


def test_only_administrators_may_look(database: Database) -> None:
    with pytest.raises(NotAllowedError):
        database.read(lambda tx: actions.get_monitor(tx, Actor("user_x", "x")))


def test_the_recorder_measures_until_it_is_stopped(database: Database, sample: Sample) -> None:
    recorder = Recorder(database, lambda: sample)
    recorder.start()
    recorder.stop()
    assert count(database, FINE, "local") == 1
