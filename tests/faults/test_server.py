"""Faults of the server: killed at any moment, stopped, its database gone, its disk full."""

import contextlib
import csv
import hashlib
import os
import sqlite3
import subprocess
import threading
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from millpond.ground.errors import BusyError

FILES = 8
ENDED = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def place(install, tools):
    """Give an installation with a pipeline, an environment and data; the server is down."""
    with install(jobs_workers=3) as one:
        one.start()
        with one.client() as client:
            fill(client, one.folder, tools, requirements="six==1.17.0\n")
            one.token = client.tokens.make("tests").text
        one.stop()
        yield one


def fill(client, folder, tools, requirements=""):
    """Make the project, the pipeline and the data that runs need."""
    client.projects.make("one")
    code = tools.write_code(folder / "code", tools.CODE["sizes"], requirements)
    client.pipelines.push(code, "sizes")
    data = folder / "files"
    data.mkdir()
    for number in range(FILES):
        (data / f"f{number}").write_text("x" * number)
    client.datasets.push(data, "files")
    version = client.pipelines.wait("sizes")
    assert version.state == "ready", (version.reason, version.faults)


def start(client, **parameters):
    return client.runs.start("sizes", {"files": "files"}, parameters).id


def check_whole(client, run_id, target, rows=1, lost="run again"):
    """The run ended right: each task done once, outputs whole, logs readable, record unbroken."""
    run = client.runs.wait(run_id)
    assert run.state == "succeeded", run.reason
    assert {step.state for step in client.runs.steps(run_id)} == {"succeeded"}
    tasks = client.runs.tasks(run_id)
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    assert done == {("measure", number): 1 for number in range(FILES)} | {("add", 0): 1}
    assert {task.state for task in tasks} <= {"done", "lost"}
    assert all(lost in task.reason for task in tasks if task.state == "lost")

    client.runs.download(run_id, target)
    with (target / "tables" / "sizes.csv").open(newline="") as file:
        found = Counter((row["path"], row["size"]) for row in csv.DictReader(file))
    assert found == {(f"f{number}", str(number)): rows for number in range(FILES)}
    assert (target / "tables" / "total.csv").read_text().split() == [
        "total",
        str(sum(range(FILES))),
    ]
    log = client.runs.log(run_id)
    assert log.is_complete
    for number in range(FILES):
        assert f"measuring f{number}\n" in log.text
    ended = list(client.log.list(target=f"run/{run_id}", most=None))
    assert Counter(entry.verb for entry in ended) == {"run.started": 1, "run.succeeded": 1}
    verdict = client.log.verify()
    assert verdict.is_ok, verdict


@contextmanager
def looking(place):
    """Look into the database while the server works: the sharpest eye there is."""
    path = place.data / "millpond.db"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        yield lambda query, *values: connection.execute(query, values).fetchone()[0]


DONE = "SELECT count(*) FROM task WHERE run_id = ? AND state = 'done'"
STATE = "SELECT state FROM run WHERE id = ?"
RUNNING = "SELECT count(*) FROM task WHERE run_id = ? AND state = 'running'"
OVER = "SELECT count(*) FROM step_run WHERE run_id = ? AND state = 'succeeded'"
MOMENTS = {
    "preparing": lambda look, run: look(STATE, run) == "preparing",
    "planned": lambda look, run: look(RUNNING, run) > 0,
    "first task done": lambda look, run: look(DONE, run) >= 1,
    "half of the tasks done": lambda look, run: look(DONE, run) >= FILES // 2,
    "last step": lambda look, run: look(OVER, run) >= 1,
    "finishing": lambda look, run: look(OVER, run) == 2,  # The outputs are gathered now.
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_run_ends_right_when_the_server_is_killed(place, tools, tmp_path, moment):
    rows = 3000 if moment == "finishing" else 1
    place.start()
    with place.client() as client, looking(place) as look:
        if moment == "preparing":
            forget_environments(place)
        run_id = start(client, seconds=0.2, rows=rows)
        tools.until(lambda: MOMENTS[moment](look, run_id), pause=0.002)
        place.kill()
        assert look(STATE, run_id) not in ENDED
        place.start()
        check_whole(client, run_id, tmp_path / "out", rows)
    place.stop()
    assert place.processes() == []


def forget_environments(place):
    """Remove the built environments, as a lost disk would: the next run has to prepare its own."""
    folder = place.data / "environments"
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.mark.slow
def test_every_run_ends_right_when_the_server_is_killed_again_and_again(place, tools, tmp_path):
    """More runs than workers: some are queued, some under way, at each of three kills."""
    place.start()
    with place.client() as client, looking(place) as look:
        runs = [start(client, seconds=0.1) for _ in range(5)]
        states = {look(STATE, run) for run in runs}
        assert "queued" in states
        for count in (2, 12, 24):
            tools.until(lambda count=count: sum(look(DONE, run) for run in runs) >= count)
            place.kill()
            place.start()
        for run in runs:
            check_whole(client, run, tmp_path / run)
    place.stop()
    assert place.processes() == []


@pytest.mark.slow
def test_run_goes_on_after_an_orderly_stop(place, tools, tmp_path):
    place.start()
    with place.client() as client, looking(place) as look:
        run_id = start(client, seconds=0.3)
        tools.until(lambda: look(DONE, run_id) >= 2)
        place.stop()
        assert place.processes() == [], "no task outlives the server"
        assert look(STATE, run_id) not in ENDED
        assert look("SELECT count(*) FROM job WHERE state = 'running'") == 0, "it was given back"
        place.start()
        check_whole(client, run_id, tmp_path / "out")
    place.stop()


@pytest.mark.slow
def test_run_ends_right_when_its_sandboxes_are_killed(place, tools, tmp_path):
    """The server stays; what runs the tasks is shot, twice."""
    place.start()
    with place.client() as client, looking(place) as look:
        run_id = start(client, seconds=0.4)
        for count in (1, 4):
            tools.until(lambda count=count: look(DONE, run_id) >= count)
            tools.until(lambda: shoot_sandboxes(place))
        check_whole(client, run_id, tmp_path / "out", lost="sandbox")
    place.stop()
    assert place.processes() == []


def shoot_sandboxes(place):
    """Kill every sandbox's outermost process; give how many there were."""
    server = psutil.Process(place.server.process.pid)
    found = [child for child in server.children(recursive=True) if child.name() == "bwrap"]
    for child in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    return len(found)


def test_cancel_and_change_that_were_answered_outlive_a_kill(place, tools):
    place.start()
    with place.client() as client, looking(place) as look:
        run_id = start(client, seconds=0.5)
        tools.until(lambda: look(RUNNING, run_id) > 0)
        client.secrets.set("KEPT", "over a kill")
        client.runs.cancel(run_id)
        place.kill()
        place.start()
        run = client.runs.wait(run_id)
        assert run.state == "cancelled"
        assert [secret.name for secret in client.secrets.list()] == ["KEPT"]
        assert client.log.verify().is_ok
    place.stop()


# The database ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_run_survives_the_loss_of_the_database(install, tools, own_postgresql, tmp_path):
    """PostgreSQL goes and comes back: requests are told so meanwhile, and nothing is lost."""
    with own_postgresql.database(empty=True) as url, install(database_url=url) as one:
        one.start()
        with one.client() as client:
            fill(client, one.folder, tools)
            run_id = start(client, seconds=0.3)
            tools.until(lambda: client.runs.get(run_id).progress.items_done >= 2)
            token = client.tokens.make("outside").text
            own_postgresql.stop()
            answer = httpx.get(
                f"{client.url}/api/v1/projects", headers={"Authorization": f"Bearer {token}"}
            )
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            problem = answer.json()
            assert "database" in problem["detail"]
            assert "doctor" in problem["next_step"]
            assert httpx.get(f"{client.url}/healthz").status_code == 503
            own_postgresql.start()
            tools.until(lambda: httpx.get(f"{client.url}/healthz").status_code == 200)
            check_whole(client, run_id, tmp_path / "out")
            check_whole(client, start(client), tmp_path / "again")
        one.stop()


# The disk ----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(missing_here):
    """Mount a small file system of this test's own; it is unmounted whatever happens."""
    folder = Path("/tmp") / f"millpond-disk-{os.getpid()}"
    folder.mkdir(mode=0o755)
    command = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "millpond-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False)
        if mounted.returncode != 0:
            missing_here("a file system of its own", "run the tests as root")
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)
        folder.rmdir()


@contextmanager
def full(folder):
    """Fill a file system to its last byte."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(b"0")
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


def check_objects(data):
    """Every object below its digest is what its name says; nothing half-written lies about."""
    objects = [p for p in (data / "objects" / "objects").rglob("*") if p.is_file()]
    named = [path for path in objects if path.parents[1].name == "objects" != path.parent.name]
    assert named
    for path in named:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert list((data / "objects" / "tmp").iterdir()) == []


@pytest.mark.slow
def test_full_disk_is_told_leaves_nothing_half_and_holds_a_run_up(
    install, tools, small_disk, tmp_path
):
    with install(data=small_disk / "data", jobs_lease_seconds=6) as one:
        one.start()
        with one.client() as client:
            client.transport.patience_seconds = 0
            fill(client, one.folder, tools)
            more = tmp_path / "more"
            more.mkdir()
            for number in range(20):
                (more / f"large{number}").write_bytes(os.urandom(300_000))
            (more / "single").write_bytes(os.urandom(2 << 20))
            run_id = start(client, seconds=0.3)
            tools.until(lambda: client.runs.get(run_id).progress.items_done >= 2)
            with full(small_disk):
                for attempt in (
                    lambda: client.datasets.push(more, "more"),
                    lambda: client.runs.start("sizes", {"files": "files"}),
                    lambda: client.secrets.set("NAME", "value" * 1000),
                ):
                    check_told(attempt)
                threading.Event().wait(1)
                run = client.runs.get(run_id)  # What only reads goes on.
                assert run.state not in ENDED, run.reason
            assert [each.name for each in client.datasets.list()] == ["files"]
            client.transport.patience_seconds = 20
            assert client.datasets.push(more, "more").version.file_count == 21
            check_whole(client, start(client), tmp_path / "out")
            check_whole(client, run_id, tmp_path / "held-up", lost="")
            check_objects(one.data)
        one.stop()
    assert one.processes() == []


def check_told(attempt):
    with pytest.raises(BusyError) as caught:
        attempt()
    assert "full" in caught.value.message
    assert "ree" in caught.value.next_step, "free space"
