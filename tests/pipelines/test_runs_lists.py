"""Lists of runs and their logs: filters, pages, a million lines, search; on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.engine.values import log_key
from millpond.ground.actor import Actor
from millpond.ground.errors import InvalidError, NotAllowedError, NotFoundError
from millpond.ground.ids import first_id, new_id
from millpond.pipelines.runs import actions, store, tries
from millpond.pipelines.runs.logs import reading, searching
from millpond.pipelines.runs.logs.beside import Places, list_beside, read_beside
from millpond.pipelines.runs.logs.reading import Scope
from millpond.pipelines.runs.logs.values import LogPlace
from millpond.pipelines.runs.staging import task_prefix
from millpond.pipelines.runs.tables import run as run_table
from millpond.pipelines.runs.tables import task as task_table
from millpond.pipelines.runs.values import RunFilter, Try
from millpond.pipelines.values import Progress, Run, Task
from millpond.storage.folder import FolderStore

ANA, VERA = Actor("user_ana", "ana"), Actor("user_vera", "vera")
POND = "prj_pond"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def listed(database, wanted=RunFilter(), **more):  # noqa: B008 - it cannot be changed.
    return database.read(lambda tx: actions.list_runs(tx, VERA, POND, wanted, **more))


def every(database, wanted=RunFilter(), limit=7):  # noqa: B008 - it cannot be changed.
    found, cursor = [], None
    while True:
        page = listed(database, wanted, cursor=cursor, limit=limit)
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.fixture
def many(people, folder_store, filling):
    """Give a database with 60 runs, seven minutes apart, the newest at noon."""
    filling.fill(people, folder_store, POND, runs=60, until=NOON)
    return people


def test_a_try_is_over_once_it_runs_no_more_and_one_of_nobodys_is_never(many):
    run_id = every(many)[0].id
    tried = [Try("late", partition, 3) for partition in range(2)]
    many.change(lambda tx: tries.start_tasks(tx, run_id, tried, 1_000_000))
    keys = {
        *(f"{run_id}/late/{number}/3" for number in range(2)), f"{run_id}/late/0/2",
        f"{run_id}/other/0/1", "run_gone/late/0/1", "compile_1", "",
    }  # fmt: skip
    over = many.read(lambda tx: tries.find_over(tx, keys))
    assert over == {f"{run_id}/late/0/2", f"{run_id}/other/0/1"}
    many.change(lambda tx: tries.place_tasks(tx, run_id, {tried[0]: "n1"}))
    anew = (tried[0], Try("late", 0, 4))
    many.change(lambda tx: tries.begin_anew(tx, run_id, [anew]))
    over |= {f"{run_id}/late/0/3"}
    assert many.read(lambda tx: tries.find_over(tx, keys)) == over
    [(_, task)] = many.read(
        lambda tx: store.list_begun(tx, run_id, step="late", partition=0, limit=2)
    )
    assert (task.attempt, task.node) == (4, ""), "it is on no node before it is given to one"
    assert many.read(lambda tx: tries.find_over(tx, ())) == set()


def test_runs_are_found_by_all_that_one_asks_for(many):
    everything = every(many)
    assert len(everything) == 60
    assert [run.id for run in everything] == sorted((run.id for run in everything), reverse=True)
    since, until = NOON - timedelta(minutes=70), NOON - timedelta(minutes=14)
    cases = {
        RunFilter(states=("failed",)): lambda run: run.state == "failed",
        RunFilter(states=("failed", "cancelled")): lambda run: run.state in ("failed", "cancelled"),
        RunFilter(pipeline="birds"): lambda run: run.what.startswith("birds@"),
        RunFilter(pipeline="birds@2"): lambda run: run.what == "birds@2",
        RunFilter(pipeline="bird"): lambda run: False,
        RunFilter(by="bench"): lambda run: True,
        RunFilter(by="ana"): lambda run: False,
        RunFilter(since=since): lambda run: run.created_at >= since,
        RunFilter(until=until): lambda run: run.created_at < until,
        RunFilter(since=since, until=until): lambda run: since <= run.created_at < until,
        RunFilter(text="IRDS@3"): lambda run: run.what == "birds@3",
        RunFilter(text=everything[5].id[-8:]): lambda run: run.id == everything[5].id,
        RunFilter(text="100%"): lambda run: False,
        RunFilter(("failed",), "birds", "bench", text="@1"): (
            lambda run: run.state == "failed" and run.what == "birds@1"
        ),
    }
    for wanted, fits in cases.items():
        assert every(many, wanted) == [run for run in everything if fits(run)], wanted


def test_a_program_is_of_no_pipeline(world):
    world.push_data("docs", {"a": "1"})
    with pytest.raises(NotFoundError):
        world.start("nothing")
    assert every(world.database, RunFilter(pipeline="nothing")) == []


def test_each_kind_of_list_walks_an_index(many):
    wanted = {
        "ix_run_project_id_id": RunFilter(),
        "ix_run_project_id_state_id": RunFilter(states=("failed",)),
        "ix_run_project_id_pipeline_id": RunFilter(pipeline="birds"),
        "ix_run_project_id_created_by_id": RunFilter(by="bench"),
    }
    for index, each in wanted.items():
        query = store.list_query(POND, each, before="run_zzz", limit=50)
        text = str(query.compile(many.engine, compile_kwargs={"literal_binds": True}))
        with many.reading() as tx:
            if many.is_sqlite:
                plan = " ".join(row[3] for row in tx.rows(sa.text(f"EXPLAIN QUERY PLAN {text}")))
            else:  # So few rows it would read whole, and sort: it is asked what it could do.
                for way in ("seqscan", "bitmapscan", "sort"):
                    tx.execute(sa.text(f"SET LOCAL enable_{way} = off"))
                plan = " ".join(row[0] for row in tx.rows(sa.text(f"EXPLAIN {text}")))
        assert index in plan, plan
        assert "TEMP B-TREE" not in plan, plan
        assert "Sort" not in plan, plan


def test_the_first_id_of_a_moment_stands_between_older_and_newer_ones():
    moment = datetime.now(UTC)
    assert first_id("run", moment - timedelta(seconds=2)) < new_id("run")
    assert new_id("run") < first_id("run", datetime.now(UTC) + timedelta(seconds=2))
    assert first_id("run", datetime(1, 1, 1, tzinfo=UTC)) == "run_000000000"


def test_who_is_no_member_sees_no_list(many):
    stranger = Actor("user_eve", "eve")
    with pytest.raises((NotFoundError, NotAllowedError)):
        many.read(lambda tx: actions.list_runs(tx, stranger, POND))


# Logs ------------------------------------------------------------------------------------------


class Log:
    """A run with tasks whose logs are given as chunks."""

    def __init__(self, database, objects, filling, tasks, running=()):
        self.database, self.objects = database, objects
        made = filling.fill(database, objects, POND, runs=1, lines=len(tasks), tasks=len(tasks))
        self.id = made.run_ids[0]
        for number, chunks in enumerate(tasks):
            prefix = task_prefix(POND, self.id, Try("score", number, 1))
            for place, data in enumerate(chunks):
                objects.put(log_key(prefix, place), data, overwrite=True)

        def change(tx):
            for number in running:
                at = task_table.c.partition == number
                tx.execute(task_table.update().where(at).values(state="running"))
            if running:
                tx.execute(run_table.update().values(state="running"))
            for number, chunks in enumerate(tasks):
                at = task_table.c.partition == number
                size = sum(map(len, chunks))
                tx.execute(task_table.update().where(at).values(log_bytes=size))

        database.change(change)
        self.run = database.read(lambda tx: actions.get_run(tx, VERA, POND, self.id))

    def forward(self, after="", lines=reading.MANY, **scope):
        place, wanted = LogPlace.read(after), Scope(**scope)
        tasks = self.database.read(lambda tx: reading.list_from(tx, self.run, place, wanted))
        return reading.read_forward(self.objects, self.run, tasks, place, lines)

    def backward(self, before=None, lines=10, **scope):
        place = None if before is None else LogPlace.read(before)
        wanted = Scope(**scope)
        tasks = self.database.read(lambda tx: reading.list_before(tx, self.run, place, wanted))
        return reading.read_backward(self.objects, self.run, tasks, place, lines)

    def beside(self, after=None, lines=10):
        places = None if after is None else Places.read(after)
        self.run = self.database.read(lambda tx: actions.get_run(tx, VERA, POND, self.id))
        tasks = self.database.read(lambda tx: list_beside(tx, self.run, places, Scope()))
        return read_beside(self.objects, self.run, tasks, places, lines)

    def write(self, number, place, data):
        prefix = task_prefix(POND, self.id, Try("score", number, 1))
        self.objects.put(log_key(prefix, place), data)

    def settle(self, *numbers, run="running"):
        def change(tx):
            ended = task_table.c.partition.in_(numbers)
            tx.execute(task_table.update().where(ended).values(state="done"))
            tx.execute(run_table.update().values(state=run))

        self.database.change(change)

    def search(self, text, after="", limit=100):
        place = LogPlace.read(after)
        tasks = self.database.read(lambda tx: reading.list_from(tx, self.run, place, Scope()))
        return searching.search_log(self.objects, self.run, tasks, place, text, limit)

    def whole(self, lines=reading.MANY):
        texts, after = [], ""
        while True:
            part = self.forward(after, lines)
            texts.append(part.text)
            if part.is_complete or not part.text:
                return "".join(texts)
            after = part.next

    def whole_backward(self, lines):
        part = self.backward(lines=lines)
        texts, end = [part.text], part.next
        while part.previous is not None:
            part = self.backward(part.previous, lines=lines)
            texts.insert(0, part.text)
        return "".join(texts), end


@pytest.fixture
def make_log(people, objects, filling):
    return lambda tasks, **more: Log(people, objects, filling, tasks, **more)


TASKS = [
    [b"one\ntw", b"o\nthree\n"],
    [],
    ["vier und f\N{LATIN SMALL LETTER U WITH DIAERESIS}nf".encode()],
    [b"\n\n", b"six \xff\n"],
]
WHOLE = (
    "== score, partition 0 ==\none\ntwo\nthree\n== score, partition 2 ==\nvier und f\xfcnf\n"
    "== score, partition 3 ==\n\n\nsix \N{REPLACEMENT CHARACTER}\n"
)


def test_a_log_reads_the_same_in_both_directions(make_log):
    log = make_log(TASKS)
    assert log.whole() == WHOLE
    for lines in (1, 2, 3, 4, 100):
        assert log.whole(lines) == WHOLE
        text, end = log.whole_backward(lines)
        assert text == WHOLE, lines
        assert log.forward(end).text == ""
        assert log.forward(end).is_complete
    tail = log.backward(lines=2)
    assert tail.text == "\nsix \N{REPLACEMENT CHARACTER}\n"
    assert tail.is_complete
    assert log.backward(lines=2, partition=2).text == "== score, partition 2 ==\nvier und f\xfcnf\n"
    assert log.forward(step="load").text == ""


def test_what_a_task_still_writes_comes_next_and_characters_stay_whole(make_log):
    snow = "\N{SNOWMAN}".encode()
    log = make_log([[b"a\n"], [b"b " + snow[:2]], [b"later\n"]], running=(1,))
    part = log.backward(lines=50)
    assert part.text == "== score, partition 0 ==\na\n== score, partition 1 ==\nb "
    assert (part.is_complete, part.previous) == (False, None)
    assert part.follows == "score, partition 1"
    assert log.forward(part.next).text == ""
    prefix = task_prefix(POND, log.id, Try("score", 1, 1))
    log.objects.put(log_key(prefix, 1), snow[2:] + b"\n")
    more = log.forward(part.next)
    assert more.text.endswith("\n")
    assert "later" not in more.text
    assert part.text + more.text == log.whole()


def test_running_tasks_are_followed_side_by_side_to_the_end(make_log):
    log = make_log([[b"a\n"], [b"b1\nb2\nb3\n"], [b"c1"]], running=(1, 2))
    part = log.beside(lines=4)
    assert part.text == "== score, partition 1 ==\nb2\nb3\n== score, partition 2 ==\nc1"
    assert part.follows == "score, partition 1; score, partition 2"
    assert log.beside(part.next).text == ""
    log.write(2, 1, b" more\n")
    part = log.beside(part.next)
    assert part.text == " more\n"  # The same one goes on: no heading.
    log.write(1, 1, b"b4")
    log.write(2, 2, b"c3\n")
    part = log.beside(part.next)
    assert part.text == "== score, partition 1 ==\nb4\n== score, partition 2 ==\nc3\n"
    log.write(1, 2, b" and b5\n")
    log.settle(1)
    part = log.beside(part.next)
    assert part.text == "== score, partition 1 ==\n and b5\n"
    assert (part.follows, part.is_complete) == ("score, partition 2", False)
    log.settle(2, run="succeeded")
    part = log.beside(log.beside(part.next).next)
    assert (part.text, part.is_complete) == ("", True)
    with pytest.raises(InvalidError, match="no places"):
        log.beside("1.2.3")


def test_tasks_that_begin_later_are_followed_from_their_beginning(make_log):
    log = make_log([[b"a\n"], [b"b\n"], [b"c\n"]], running=(0,))
    begun = Places.read(log.beside().next)
    first = Places(begun.open, 1, begun.last)  # As if the other two had not begun then.
    part = log.beside(str(first))
    assert part.text == "== score, partition 1 ==\nb\n== score, partition 2 ==\nc\n"
    assert log.beside(part.next).text == ""


@settings(max_examples=60, deadline=None)
@given(
    tasks=st.lists(
        st.lists(
            st.binary(min_size=1, max_size=9).map(lambda b: b.replace(b"a", b"\n")), max_size=4
        ),
        min_size=1,
        max_size=4,
    ),
    lines=st.integers(1, 6),
)
def test_any_log_reads_the_same_in_both_directions(tmp_path_factory, tasks, lines):
    objects = FolderStore(tmp_path_factory.mktemp("o"), "http://127.0.0.1:1", b"k" * 32)
    run, begun = _made(tasks, objects)

    def backward(place):
        last = len(begun) if place is None else place.number
        before = [each for each in reversed(begun) if each[0] <= last]
        return reading.read_backward(objects, run, before, place, lines)

    whole = reading.read_forward(objects, run, begun, LogPlace()).text
    part = backward(None)
    texts = [part.text]
    while part.previous is not None:
        part = backward(LogPlace.read(part.previous))
        texts.insert(0, part.text)
    # Where pieces meet, broken characters may be replaced by one sign or by several.
    assert "".join(texts).replace("\ufffd", "") == whole.replace("\ufffd", "")


def _made(tasks, objects):
    begun = []
    for number, chunks in enumerate(tasks):
        prefix = task_prefix(POND, "run_x", Try("s", number, 1))
        objects.put_many((log_key(prefix, place), data) for place, data in enumerate(chunks))
        task = Task("s", number, 1, "done", log_bytes=sum(map(len, chunks)))
        begun.append((number + 1, task))
    run = Run(
        "run_x", POND, "p@1", None, "succeeded", "", {}, (), "", "", "", "", 0, Progress(), NOON,
        "ana",
    )  # fmt: skip
    return run, begun


def test_search_finds_lines_across_chunks_in_any_case_page_by_page(make_log):
    log = make_log([[b"a NEE", b"DLE here\nno\nneedle\n"], [b"x\nneedle without end"]])
    found = log.search("Needle")
    assert [each.text for each in found.items] == ["a NEEDLE here", "needle", "needle without end"]
    assert found.next is None
    first = found.items[1]
    assert log.forward(first.at).text.startswith("needle\n")
    assert log.backward(first.at, lines=1).text == "no\n"
    page = log.search("needle", limit=2)
    assert len(page.items) == 2
    rest = log.search("needle", after=page.next, limit=2)
    assert [each.text for each in rest.items] == ["needle without end"]
    assert rest.next is None
    assert not log.search("haystack").items


def test_search_knows_letters_beyond_ascii(make_log):
    log = make_log([["GR\N{LATIN CAPITAL LETTER O WITH DIAERESIS}SSE\nklein\n".encode()]])
    found = log.search("gr\N{LATIN SMALL LETTER O WITH DIAERESIS}")
    assert [each.partition for each in found.items] == [0]
    assert found.items[0].text.startswith("GR")


def test_a_million_lines_are_read_from_their_end_and_searched_in_bounded_parts(
    people, folder_store, filling, monkeypatch
):
    made = filling.fill(people, folder_store, POND, runs=3, lines=1_000_000, tasks=120)
    log = object.__new__(Log)
    log.database, log.objects, log.id = people, folder_store, made.run_ids[0]
    log.run = people.read(lambda tx: actions.get_run(tx, VERA, POND, log.id))
    read = []
    get = folder_store.get

    def counted(key, start=0, length=None):
        data = get(key, start, length)
        read.append(len(data))
        return data

    monkeypatch.setattr(folder_store, "get", counted)
    part = log.backward(lines=2000)
    assert part.text.count("\n") == 2000
    assert "line 00999999" in part.text
    assert sum(read) < 2 << 20
    older = log.backward(part.previous, lines=2000)
    assert "line 00998000" in part.text + older.text
    read.clear()
    assert "line 00000000" in log.forward().text
    assert sum(read) < 1 << 20
    read.clear()
    found = log.search("line 00900000")
    searched = found.searched_bytes
    while not found.items:
        assert sum(read) <= searching.SEARCHED_MOST + (1 << 20)
        read.clear()
        found = log.search("line 00900000", after=found.next)
        searched += found.searched_bytes
    assert searched > 60 << 20
    assert found.items[0].text.split("line ")[1].startswith("00900000")


def test_a_place_that_no_log_gave_out_is_refused():
    for text in ("x", "1", "1.2", "1.2.3.4", "-1.0.0", "9" * 12 + ".0.0"):
        with pytest.raises(InvalidError):
            LogPlace.read(text)
    assert LogPlace.read("0") == LogPlace()


# Again -----------------------------------------------------------------------------------------

COUNT = """
from millpond import Files, Table, pipeline, step

@step(memory="128 MiB")
def count(files: Files, note: str) -> Table:
    yield {"files": len(list(files)), "note": note}

@pipeline
def sample(files: Files, note: str = "none"):
    return {"counts": count(files, note)}
"""


def test_again_pins_the_same_data_code_and_parameters(world):
    world.push(COUNT)
    world.push_data("docs", {"a": "1"})
    first = world.run(inputs={"files": "docs"}, note="x")
    world.push_data("docs", {"a": "1", "b": "2"})
    world.push(COUNT + "\n# newer\n")
    made = world.database.change(lambda tx: actions.run_again(tx, ANA, POND, first.id))
    assert made.id != first.id
    assert (made.inputs, made.parameters) == (first.inputs, first.parameters)
    assert (made.what, made.code_digest) == (first.what, first.code_digest)
    assert world.wait(made.id).state == "succeeded"
    with pytest.raises(NotAllowedError):
        world.database.change(lambda tx: actions.run_again(tx, VERA, POND, first.id))
    with pytest.raises(NotFoundError):
        world.database.change(lambda tx: actions.run_again(tx, ANA, POND, "run_none"))


def test_tasks_are_listed_by_their_state(world):
    world.push(COUNT)
    world.push_data("docs", {"a": "1"})
    run = world.run(inputs={"files": "docs"})

    def tasks(state):
        return world.database.read(
            lambda tx: actions.list_tasks(tx, VERA, POND, run.id, state=state)
        ).items

    assert [task.step for task in tasks("done")] == ["count"]
    assert tasks("failed") == []
