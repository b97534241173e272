"""What each kind of loss costs, when it comes in the middle of a run."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from csv import DictReader
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from shutil import rmtree

import psutil
from company import Company, until

from millpond.ground.errors import MillpondError
from millpond.pipelines.values import RUN_ENDED, Task

TASKS, SECONDS, DONE_BEFORE = 120, 0.5, 30
_FROZEN_SECONDS = 0.38
CUT_SECONDS, STILL_SECONDS = 10.0, 20.0
DISK_GONE = "mkdir -p /mnt/kept; mount --bind /mnt/data /mnt/kept; umount -l /mnt/data"
DISK_BACK = "mount --bind /mnt/kept /mnt/data; umount /mnt/kept"
DISK_FULL = (
    "fallocate -l $(($(df -Pk /mnt/data | sed -n 2p | tr -s ' ' | cut -d' ' -f4) - 1000))K"
    " /mnt/data/full; cat /dev/zero >>/mnt/data/full 2>/dev/null; :"
)
PIPELINE = '''
import time

from millpond import Files, Table, pipeline, step


@step(map=True, files_per_task=1, memory="64 MiB", retries=0)
def measure(files: Files, seconds: float = 0.0) -> Table:
    for file in files:
        print("begun", file.name, flush=True)
        time.sleep(seconds)
        yield {"path": file.name, "size": file.size}
        print("ended", file.name, flush=True)


@pipeline
def lengths(files: Files, seconds: float = 0.0) -> Table:
    """How long is each file?"""
    return measure(files, seconds=seconds)
'''


@dataclass(frozen=True)
class Loss:
    """One kind of loss.

    Attributes:
        happen: makes it happen, to the host and one worker.
        pass_by: seconds after which it ends; None: it stays until the run has ended.
        undo: makes it end.
    """

    name: str
    happen: Callable[[Company], None]
    undo: Callable[[Company], None]
    pass_by: float | None = None


@dataclass(frozen=True)
class Seen:
    """What a loss cost."""

    name: str
    given_back: float
    pause: float
    wall: float
    in_flight: int
    never_begun: int
    finished_twice: int
    results_lost: int
    objects_lost: int
    two_copies: float
    words: str


def losses() -> Iterator[Loss]:
    """Give each kind; the last worker is the one that it happens to."""
    end_worker = kill("millpond.worker", of_host=False)
    yield Loss("none", nothing, nothing)
    yield Loss("worker killed (kill -9)", end_worker, nothing)
    yield Loss("power cut, for good", cut, mend)
    yield Loss(f"network cut, {CUT_SECONDS:.0f} s", cut, mend, CUT_SECONDS)
    yield Loss(f"worker stands still, {STILL_SECONDS:.0f} s", still, go_on, STILL_SECONDS)
    slowed = Slowed()
    yield Loss("worker slow (runs 5 % of the time)", slowed.begin, slowed.end)
    yield Loss("data disk gone", shell(DISK_GONE), shell(DISK_BACK))
    yield Loss("data disk full", shell(DISK_FULL), shell("rm /mnt/data/full"))
    yield Loss("scheduler killed", kill("cluster.scheduler", of_host=True), nothing)
    yield Loss("server killed", kill("millpond.main", of_host=True), nothing)
    yield Loss(f"host's link cut, {CUT_SECONDS:.0f} s", cut_host, mend_host, CUT_SECONDS)


def nothing(_: Company) -> None:
    """Leave all as it is."""


def kill(word: str, *, of_host: bool) -> Callable[[Company], None]:
    """Kill a service; what looks after it starts it again."""

    def happen(company: Company) -> None:
        machine = company.host if of_host else company.workers[-1]
        for process in company.processes(machine, word):
            words = " ".join(process.cmdline())
            if "deploy.loop" not in words and "--supervise" not in words:
                process.kill()

    return happen


def cut(company: Company) -> None:
    company.workers[-1].cut()


def mend(company: Company) -> None:
    company.workers[-1].mend()


def cut_host(company: Company) -> None:
    company.host.cut()


def mend_host(company: Company) -> None:
    company.host.mend()


def still(company: Company) -> None:
    for process in company.processes(company.workers[-1]):
        with suppress(psutil.Error):
            process.suspend()


def go_on(company: Company) -> None:
    for process in company.processes(company.workers[-1]):
        with suppress(psutil.Error):
            process.resume()


def shell(text: str) -> Callable[[Company], None]:
    """Run a line of shell on the last worker."""

    def happen(company: Company) -> None:
        company.workers[-1].run("sh", "-c", text)

    return happen


class Slowed:
    """Lets the last worker run a twentieth of the time."""

    def __init__(self) -> None:
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, company: Company) -> None:
        group = Path("/sys/fs/cgroup/freezer") / company.workers[-1].namespace
        self._ending.clear()
        self._thread = threading.Thread(target=self._work, args=(group / "freezer.state",))
        self._thread.start()

    def _work(self, state: Path) -> None:
        while not self._ending.is_set():
            state.write_text("FROZEN")
            self._ending.wait(_FROZEN_SECONDS)
            state.write_text("THAWED")
            time.sleep(_FROZEN_SECONDS / 19)

    def end(self, _: Company) -> None:
        self._ending.set()
        if self._thread is not None:
            self._thread.join()


def prepare(company: Company) -> None:
    """Push data and pipeline, and run once, so that every node is warm."""
    code, data = company.folder / "lengths", company.folder / "files"
    code.mkdir()
    data.mkdir()
    (code / "pipeline.py").write_text(PIPELINE)
    for number in range(TASKS):
        (data / f"{number:03}").write_text("x" * number)
    company.client.pipelines.push(code)
    version = company.client.pipelines.wait("lengths")
    if version.state != "ready":
        raise SystemExit(version.reason)
    company.client.datasets.push(data, "files")
    run = company.client.runs.start("lengths", {"files": "files"}, {"seconds": 0.0})
    if company.client.runs.wait(run.id).state != "succeeded":
        raise SystemExit(company.client.runs.get(run.id).reason)


def suffer(company: Company, loss: Loss) -> Seen:
    """Let one loss happen in the middle of a run; look at what it cost; make all well again."""
    client = company.client
    company.wait_up()
    until(company.has_two_of_everything, 300)
    run = client.runs.start("lengths", {"files": "files"}, {"seconds": SECONDS})
    began = time.monotonic()
    until(lambda: client.runs.get(run.id).progress.items_done >= DONE_BEFORE, 120, 0.05)
    loss.happen(company)
    lost_at = datetime.now(UTC)
    if loss.pass_by is not None:
        time.sleep(loss.pass_by)
        loss.undo(company)
    until(lambda: has_ended(company, run.id), 400)
    tasks = client.runs.tasks(run.id)
    wall = time.monotonic() - began
    if (ended := client.runs.get(run.id)).ended_at and ended.started_at:
        wall = (ended.ended_at - ended.started_at).total_seconds()
    wrong = count_wrong(company, run.id)
    worker = company.workers[-1].name
    until(lambda: company.states()[worker] in ("up", "lost"), 120)
    until(company.has_two_of_everything, 300)
    whole = (datetime.now(UTC) - lost_at).total_seconds()
    if loss.pass_by is None:
        loss.undo(company)
    lost = [task for task in tasks if task.state == "lost"]
    return Seen(
        loss.name,
        given_back(tasks, lost_at),
        longest_pause(tasks, lost_at),
        wall,
        len(lost),
        sum(not task.node for task in lost),  # They waited; a server before had them in its queue.
        done_twice(tasks) + max(0, ended_twice(company, run.id) - len(lost)),
        wrong if ended.state == "succeeded" else TASKS,
        count_unreadable(company),
        whole,
        "; ".join(sorted({task.reason for task in lost})) or ended.reason,
    )


def has_ended(company: Company, run: str) -> bool:
    with suppress(MillpondError):  # The server, or the way to it, is what was lost.
        return company.client.runs.get(run).state in RUN_ENDED
    return False


def given_back(tasks: Sequence[Task], lost_at: datetime) -> float:
    """Give the seconds until every task that was lost could go elsewhere."""
    ends = [task.ended_at for task in tasks if task.state == "lost" and task.ended_at is not None]
    return max(((each - lost_at).total_seconds() for each in ends), default=0.0)


def longest_pause(tasks: Sequence[Task], lost_at: datetime) -> float:
    """Give the longest time after the loss in which no task ended anywhere."""
    ends = sorted(t.ended_at for t in tasks if t.state == "done" and t.ended_at is not None)
    moments = [lost_at, *(each for each in ends if each > lost_at)]
    return max(((b - a).total_seconds() for a, b in pairwise(moments)), default=0)


def done_twice(tasks: Sequence[Task]) -> int:
    """Count the tasks that were begun once more after they were done."""
    done = Counter((task.step, task.partition) for task in tasks if task.state == "done")
    later = [t for t in tasks for d in tasks if d.state == "done" and is_later(t, d)]
    return sum(count - 1 for count in done.values()) + len(later)


def ended_twice(company: Company, run: str) -> int:
    """Count the times that a task's code came to its end once more."""
    text, after = "", None
    while True:
        part = company.client.runs.log(run, after=after)
        text, after = text + part.text, part.next
        if not part.text or after is None:
            break
    ended = Counter(line for line in text.splitlines() if line.startswith("ended "))
    return ended.total() - len(ended)


def is_later(task: Task, than: Task) -> bool:
    return (task.step, task.partition) == (
        than.step,
        than.partition,
    ) and task.attempt > than.attempt


def count_wrong(company: Company, run: str) -> int:
    """Count the rows of the result that lack, are doubled, or are wrong."""
    target = company.folder / "results"
    company.client.runs.download(run, target)
    with next(target.rglob("*.csv")).open(newline="") as file:
        found = Counter((row["path"], int(row["size"])) for row in DictReader(file))
    rmtree(target)
    wanted = Counter((f"{number:03}", number) for number in range(TASKS))
    return (wanted - found).total() + (found - wanted).total()


def count_unreadable(company: Company) -> int:
    """Count the objects that cannot be read whole: the dataset's, and what runs have left."""
    target, bad = company.folder / "data-back", 0
    company.client.datasets.download("files", target)
    for number in range(TASKS):
        path = next(iter(target.rglob(f"{number:03}")), None)
        bad += path is None or path.read_text() != "x" * number
    rmtree(target)
    return bad


def row_of(seen: Seen, slots: int) -> list[object]:
    return [
        seen.name,
        f"{seen.given_back:.1f}" if seen.in_flight else "-",
        f"{seen.pause:.1f}",
        f"{seen.wall:.1f}",
        seen.in_flight - seen.never_begun,
        seen.finished_twice + max(0, seen.in_flight - seen.never_begun - slots),
        seen.results_lost,
        seen.objects_lost,
        f"{seen.two_copies:.0f}",
    ]


HEADS = (
    "loss", "s until its tasks go elsewhere", "longest pause, s", "whole run, s",
    "in flight, run again", "others run twice", "results lost", "objects lost",
    "s until two copies again",
)  # fmt: skip
