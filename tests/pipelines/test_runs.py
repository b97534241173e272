"""Runs from start to end: real database, real engine, real sandbox."""

import json
import time

import pytest

from millpond.ground.actor import Actor
from millpond.ground.errors import ConflictError, InvalidError
from millpond.pipelines.outputs.manifests import find_output, read_outputs
from millpond.pipelines.runs import actions
from millpond.pipelines.runs.logs import reading
from millpond.pipelines.runs.logs.reading import Scope
from millpond.pipelines.runs.logs.values import LogPlace
from millpond.pipelines.specs import actions as specs

ANA = Actor("user_ana", "ana")
POND = "prj_pond"
SIZES = '''
from typing import Annotated, Literal, NamedTuple
from millpond import File, Files, Param, Table, pipeline, step

class Report(NamedTuple):
    summary: Table
    plot: File

@step(map=True, files_per_task=3, memory="128 MiB")
def identify(files: Files, least: Annotated[int, Param(ge=0)] = 0) -> Table:
    for file in files:
        print("looking at", ascii(file.name))
        if file.size >= least:
            yield {"path": file.name, "size": file.size, "text": file.read_text()}

@step(memory="128 MiB")
def report(rows: Table, mode: str) -> Report:
    rows = list(rows)
    total = sum(row["size"] for row in rows)
    names = [row["path"] for row in rows]
    return Report([{"total": total, "mode": mode, "names": names}], ("plot.svg", "<svg/>"))

@pipeline
def sizes(files: Files, least: int = 0, mode: Literal["short", "long"] = "long"):
    """Measure files."""
    rows = identify(files, least=least)
    made = report(rows, mode)
    return {"predictions": rows, "summary": made.summary, "plot": made.plot}
'''


def output(world, run, path):
    manifest = read_outputs(world.objects, run.outputs_key)
    return world.objects.get(find_output(manifest, path.encode()).key)


def test_map_and_whole_steps_give_collected_outputs(world):
    version = world.push(SIZES)
    assert version.state == "ready", version.reason
    names = ["a.txt", "b/c.txt", "d\n.txt", b"e\xff.txt", "f.txt", "g.txt", "empty"]
    data = {name: "x" * place for place, name in enumerate(names, 1)}
    world.push_data("docs", {**data, "empty": b""})
    run = world.run(inputs={"files": "docs"}, least=0)
    assert run.state == "succeeded", run.reason
    steps = world.steps(run.id)
    assert steps["identify"].partitions == steps["identify"].partitions_done == 3
    assert run.progress.items_done == run.progress.items_total == 7
    assert run.progress.bytes_done == run.progress.bytes_total == 21
    assert run.isolated
    files = [one.path for one in read_outputs(world.objects, run.outputs_key).files]
    assert {"predictions.csv", "statistics.json", "report.html", "provenance.json"} <= set(files)
    summary = output(world, run, "tables/summary.csv").decode()
    assert "21" in summary
    assert output(world, run, "files/plot/plot.svg") == b"<svg/>"
    provenance = json.loads(output(world, run, "provenance.json"))
    assert provenance


TABLES = """
from millpond import Table, Files, pipeline, step

@step(map=True, rows_per_task=10, memory="128 MiB")
def double(rows: Table, factor: int) -> Table:
    for row in rows:
        yield {"n": int(row["n"]) * factor}

@step(map=True, rows_per_task=25, memory="128 MiB")
def mark(rows: Table) -> Table:
    rows = list(rows)
    return [{"n": row["n"], "first": rows[0]["n"]} for row in rows]

@pipeline
def tables(rows: Table, factor: int = 2):
    doubled = double(rows, factor)
    return {"doubled": doubled, "marked": mark([doubled, doubled])}
"""


def test_tables_are_split_by_rows_and_parts_keep_their_order(world):
    assert world.push(TABLES).state == "ready"
    lines = ["n", *map(str, range(42))]
    world.push_data(
        "numbers", {"a.csv": "\n".join(lines[:30]), "b.csv": "\n".join(["n", *lines[30:]])}
    )
    run = world.run(inputs={"rows": "numbers"}, factor=3)
    assert run.state == "succeeded", run.reason
    assert output(world, run, "tables/doubled.csv").decode().split() == [
        "n",
        *(str(3 * n) for n in range(42)),
    ]
    marked = output(world, run, "tables/marked.csv").decode().split()[1:]
    assert [line.split(",")[0] for line in marked] == [str(3 * n) for n in range(42)] * 2
    steps = world.steps(run.id)
    assert steps["double"].partitions == 5
    assert steps["mark"].partitions == 4, "parts stay whole: 10+10, 10+10, 2+10+10, 10+10+2"
    assert run.progress.unit == "rows"
    assert run.progress.items_done == run.progress.items_total == 42 + 84


COMMAND = """
from millpond import Files, Table, pipeline, step

count = step.command(
    "count",
    ["sh", "-c", "wc -c $MILLPOND_INPUT_FILES/* | grep -v total > out.txt; cat $MILLPOND_PARAMETERS; cp {code}/extra.txt . ; echo {unit}"],
    inputs={"files": Files}, parameters={"unit": str}, defaults={"unit": "bytes"}, memory="128 MiB",
)

@pipeline
def counted(files: Files, unit: str = "bytes"):
    return {"counts": count(files, unit=unit)}
"""


def test_command_steps_run_programs_in_any_language(world):
    made = world.push({"pipeline.py": COMMAND, "extra.txt": "beside"})
    assert made.state == "ready", made.reason
    world.push_data("docs", {"a b.txt": "12345", "c.txt": ""})
    run = world.run(inputs={"files": "docs"}, unit="octets")
    assert run.state == "succeeded", run.reason
    assert output(world, run, "files/counts/extra.txt") == b"beside"
    assert b"5 " in output(world, run, "files/counts/out.txt")
    log = output(world, run, "logs/count.log").decode()
    assert '"unit": "octets"' in log
    assert "octets" in log.splitlines()[-1]


FAULTY = """
import os, signal, sys, time
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, retries=2, seconds=30, memory="128 MiB")
def shaky(files: Files, how: str) -> Table:
    for file in files:
        if file.name == "bad":
            print("here comes", how, flush=True)
            if how == "raise": raise ValueError("no good")
            if how == "kill": os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit": sys.exit(3)
        yield {"name": file.name}

@step(memory="128 MiB")
def after(rows: Table) -> Table:
    return list(rows)

@step(memory="128 MiB")
def other(files: Files) -> Table:
    return [{"count": len(files)}]

@pipeline
def faulty(files: Files, how: str = "raise"):
    return {"after": after(shaky(files, how)), "other": other(files)}
"""


def test_step_that_fails_is_tried_again_then_its_followers_are_skipped_and_others_go_on(world):
    assert world.push(FAULTY).state == "ready"
    world.push_data("docs", {"good": "1", "bad": "2"})
    runs = [world.start(inputs={"files": "docs"}, how=how) for how in ("raise", "kill", "exit")]
    for run in [world.wait(one.id) for one in runs]:
        assert run.state == "failed"
        assert "shaky" in run.reason
        assert "3 tries" in run.reason
        steps = world.steps(run.id)
        assert steps["shaky"].state == "failed"
        assert steps["after"].state == "skipped"
        assert steps["other"].state == "succeeded"
        tried = [
            task for task in world.tasks(run.id) if task.step == "shaky" and task.partition == 0
        ]
        assert [task.attempt for task in tried] == [1, 2, 3]
        assert {task.state for task in tried} == {"failed"}
        assert b"here comes" in output(world, run, "logs/shaky.log")
        assert output(world, run, "tables/other.csv").split() == [b"count", b"2"]


SLOW = """
import time
from millpond import Files, Table, pipeline, step

@step(map=True, files_per_task=1, seconds={seconds}, memory="128 MiB")
def slow(files: Files) -> Table:
    print("began", flush=True)
    for file in files:
        time.sleep(60)
        yield {{"name": file.name}}

@pipeline
def slowly(files: Files):
    return {{"rows": slow(files)}}
"""


def test_cancel_ends_every_task_within_two_seconds(world):
    world.push(SLOW.format(seconds=50))
    world.push_data("docs", {str(n): str(n) for n in range(10)})
    run = world.start(inputs={"files": "docs"})
    world.until(lambda: world.tasks(run.id), lambda tasks: len(tasks) == 10)
    world.until(world.engine.nodes, lambda nodes: nodes[0].free_slots == 0)
    begun = time.monotonic()
    world.database.change(lambda tx: actions.cancel_run(tx, ANA, POND, run.id))
    ended = world.wait(run.id, seconds=5)
    assert time.monotonic() - begun < 2
    assert ended.state == "cancelled"
    assert "ana" in ended.reason
    assert world.engine.nodes()[0].free_slots == 2
    assert {task.state for task in world.tasks(run.id)} == {"cancelled"}
    assert {task.isolated for task in world.tasks(run.id)} == {True}  # Eight never ran.
    assert world.steps(run.id)["slow"].state == "cancelled"
    with pytest.raises(ConflictError, match="ended"):
        world.database.change(lambda tx: actions.cancel_run(tx, ANA, POND, run.id))


def test_step_past_its_time_limit_fails_with_words(world):
    world.push(SLOW.format(seconds=0.5).replace("memory=", "fork=False, memory="))
    world.push_data("docs", {"a": "1"})
    run = world.run(inputs={"files": "docs"})
    assert run.state == "failed"
    assert "0.5" in run.reason
    assert len(world.tasks(run.id)) == 1


def test_forked_task_that_hangs_gets_one_try_in_a_fresh_sandbox_and_the_version_remembers(world):
    code = """
import os, time
from millpond import Table, pipeline, step

@step(seconds=2, memory="128 MiB", preload=["holder"])
def hang() -> Table:
    import holder
    with holder.lock:
        return [{"done": 1}]

@pipeline
def hangs():
    return {"rows": hang()}
"""
    holder = """
import _thread, threading, time
lock = threading.Lock()
# A thread that no list of threads knows holds the lock a while: forked meanwhile, a child
# never gets it.
def hold():
    with lock:
        time.sleep(1.2)
_thread.start_new_thread(hold, ())
time.sleep(0.05)
"""
    assert world.push({"pipeline.py": code, "holder.py": holder}).state == "ready"
    run = world.run()
    assert run.state == "succeeded", run.reason
    assert [task.state for task in world.tasks(run.id)] == ["done"]
    version = world.database.read(lambda tx: specs.get_version(tx, POND, "sample"))
    assert version.no_fork


def test_outputs_of_one_name_from_two_partitions_are_refused_with_words(world):
    code = """
from millpond import Files, pipeline, step

@step(map=True, files_per_task=1, memory="128 MiB")
def copy(files: Files) -> Files:
    for file in files:
        yield "same.txt", file.read_bytes()

@step(memory="128 MiB")
def join(files: Files) -> Files:
    return files

@pipeline
def joined(files: Files):
    return {"all": join(copy(files))}
"""
    assert world.push(code).state == "ready"
    world.push_data("docs", {"a": "1", "b": "2"})
    run = world.run(inputs={"files": "docs"})
    assert run.state == "failed"
    assert "same.txt" in run.reason


def test_empty_input_gives_empty_outputs(world):
    world.push(SIZES)
    world.push_data("nothing", {})
    run = world.run(inputs={"files": "nothing"})
    assert run.state == "succeeded", run.reason
    assert world.steps(run.id)["identify"].partitions == 0
    assert b"0" in output(world, run, "tables/summary.csv")


LEFT_OUT = """
from typing import Annotated, Optional
from millpond import File, Files, Model, Param, Table, pipeline, step

@step
def look(many: Files, one: Annotated[Optional[File], Param()], rows: Table, model: Model) -> Table:
    yield {"many": len(many), "one": one is None, "rows": len(list(rows)), "model": model.path}

@pipeline
def left_out(many: Files = None, one: Optional[File] = None, rows: Table = None,
             model: Model = None):
    return {"seen": look(many, one, rows, model)}
"""


def test_data_that_was_left_out_is_empty_and_a_file_is_none(world):
    version = world.push(LEFT_OUT)
    assert version.state == "ready", version
    run = world.run()
    assert run.state == "succeeded", run.reason
    _, row = output(world, run, "tables/seen.csv").decode().splitlines()
    assert row.lower().startswith("0,true,0,")


def test_start_names_every_fault_at_once_and_changes_nothing(world):
    world.push(SIZES)
    world.push_data("docs", {"a": "1"})
    with pytest.raises(InvalidError) as caught:
        world.start(inputs={"file": "docs", "files": "absent"}, least=-1, mode="medium", lesat=3)
    fields = {fault.field: fault.message for fault in caught.value.faults}
    assert set(fields) == {
        "inputs.file", "inputs.files", "parameters.least", "parameters.mode", "parameters.lesat"
    }  # fmt: skip
    assert "'least'" in fields["parameters.lesat"]
    assert not world.database.read(lambda tx: actions.list_runs(tx, ANA, POND)).items


def test_log_is_read_in_pieces_while_it_runs_and_after(world):
    world.push(SLOW.format(seconds=50))
    world.push_data("docs", {"a": "1"})
    run = world.start(inputs={"files": "docs"})

    def look(after=""):
        place = LogPlace.read(after)
        found = world.get(run.id)
        tasks = world.database.read(lambda tx: reading.list_from(tx, found, place, Scope()))
        return reading.read_forward(world.objects, found, tasks, place)

    part = world.until(look, lambda part: "began" in part.text)
    assert not part.is_complete
    assert look(part.next).text == ""
    world.database.change(lambda tx: actions.cancel_run(tx, ANA, POND, run.id))
    world.wait(run.id)
    rest = look(part.next)
    assert "began" not in rest.text
    assert rest.is_complete
