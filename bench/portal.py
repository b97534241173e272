"""How quickly pages show what matters, with few runs and with many; and twenty people at once.

    python bench/portal.py [--times 5] [--runs 10000] [--lines 1000000] [--peer] [--people 20]
                           [--minutes 10]

Pages: headless Chromium, a fresh context for each measurement, in turns over a server with 100 runs
and one with many; from the start of the navigation until the first row of the list of runs, or the
first line of a run's log, is visible. ``--peer`` adds MLflow's own page of runs, with as many runs,
in an environment of its own, which it installs anew. People: each opens pages, asks for parts and
follows events as a browser does, with pauses of one to four seconds; the time is that of each page.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uv
from filling import Filled, fill
from measuring import Bench, memory_of_tree, own_server, print_load, print_table
from playwright.sync_api import Browser

from millpond.ground.settings import load_settings
from millpond.storage.opening import open_database, open_objects
from millpond.web.portal import cookie_name

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from shots import browse, open_context

FEW = 100
PAUSE = (1.0, 4.0)


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--times", type=int, default=5)
    given.add_argument("--runs", type=int, default=10_000)
    given.add_argument("--lines", type=int, default=1_000_000)
    given.add_argument("--peer", action="store_true")
    given.add_argument("--people", type=int, default=20)
    given.add_argument("--minutes", type=float, default=10)
    asked = given.parse_args()
    print_load()
    with ExitStack() as stack:
        few = stack.enter_context(filled(FEW, asked.lines // 100))
        many = stack.enter_context(filled(asked.runs, asked.lines))
        peer = stack.enter_context(mlflow(asked.runs)) if asked.peer else None
        with browse() as browser:
            show_pages(browser, few, many, peer, asked.times)
        if asked.people:
            show_people(many, asked.people, asked.minutes * 60)


@contextmanager
def filled(runs: int, lines: int) -> Iterator[tuple[Bench, Filled, str]]:
    """Give a server with so many runs; the newest has so many lines of log."""
    with own_server() as bench:
        data = bench.folder / "data"
        settings = load_settings(None, {})
        project = bench.client.projects.get("bench").id
        database = open_database(settings.database, data)
        try:
            objects = open_objects(settings.objects, data, bench.client.url)
            made = fill(database, objects, project, runs=runs, lines=lines)
        finally:
            database.close()
        yield bench, made, bench.client.tokens.make("bench").text


# Pages -----------------------------------------------------------------------------------------


def show_pages(
    browser: Browser,
    few: tuple[Bench, Filled, str],
    many: tuple[Bench, Filled, str],
    peer: str | None,
    times: int,
) -> None:
    rows: dict[str, list[tuple[float, float]]] = {}
    list_row, log_line = "#runs-list tbody a", "[data-log-lines] span"
    for _ in range(times + 1):  # The first round warms both servers and does not count.
        for name, (bench, made, token) in ((f"{FEW} runs", few), ("many runs", many)):
            url = bench.client.url + "/projects/bench/runs"
            for what, address, sign in (
                (f"list, {name}", url, list_row),
                (f"log of a run, {name}", f"{url}/{made.run_ids[0]}", log_line),
            ):
                rows.setdefault(what, []).append(measure(browser, bench, token, address, sign))
        if peer:
            found = measure(browser, None, "", peer, '[role="row"] a, tbody tr td a')
            rows.setdefault("list, MLflow, many runs", []).append(found)
    shown = []
    for what, found in rows.items():
        seconds = [each[0] for each in found[1:]]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"
        shown.append([what, spread, f"{statistics.median(each[1] for each in found[1:]):.0f}"])
    print_table(["page", f"seconds to see it, median of {times}", "kB over the wire"], shown)
    for what in ("list", "log of a run"):
        pair = [
            statistics.median(e[0] for e in rows[f"{what}, {name}"][1:])
            for name in (f"{FEW} runs", "many runs")
        ]
        print(f"\n{what}: many against few {pair[1] / pair[0]:.2f} (aim 1.5 at most; 0.6 s)")
    if peer:
        own, other = rows["list, many runs"][1:], rows["list, MLflow, many runs"][1:]
        slower = statistics.median(b[0] / a[0] for a, b in zip(own, other, strict=True))
        heavier = statistics.median(b[1] / a[1] for a, b in zip(own, other, strict=True))
        print(f"\nlist, MLflow against Millpond in the same round: {slower:.1f} times the seconds,")
        print(f"{heavier:.0f} times the bytes")


def measure(
    browser: Browser, bench: Bench | None, token: str, address: str, sign: str
) -> tuple[float, float]:
    """Open a page in a fresh context; give seconds until the sign is seen, and kB received."""
    url = bench.client.url if bench else address
    context = open_context(browser, url, token) if bench else browser.new_context()
    try:
        page = context.new_page()
        wire = context.new_cdp_session(page)
        received = Counter[str]()
        wire.send("Network.enable")
        wire.on(
            "Network.loadingFinished", lambda e: received.update(bytes=int(e["encodedDataLength"]))
        )
        began = time.monotonic()
        page.goto(address, wait_until="commit")
        page.locator(sign).first.wait_for(state="visible", timeout=60_000)
        seconds = time.monotonic() - began
        page.wait_for_load_state("load")
        page.wait_for_timeout(300)
        return seconds, received["bytes"] / 1000
    finally:
        context.close()


@contextmanager
def mlflow(runs: int) -> Iterator[str]:
    """Start MLflow's server with as many runs of one experiment; give the address of its list."""
    folder = Path(tempfile.mkdtemp(prefix="millpond-mlflow-"))
    python = folder / "env" / "bin" / "python"
    port = 5900 + random.randrange(90)
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, folder / "env"], check=True)
    subprocess.run([tool, "pip", "install", "-q", "--python", python, "mlflow"], check=True)
    address = f"sqlite:///{folder}/mlflow.db"
    code = (
        "import sys, mlflow\n"
        f"c = mlflow.MlflowClient({address!r})\n"
        "e = c.create_experiment('bench')\n"
        f"for n in range({runs}):\n"
        "    r = c.create_run(e, run_name=f'run {n}')\n"
        "    c.set_terminated(r.info.run_id)\n"
        "print(e)\n"
    )
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    made = subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True, env=quiet
    )
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", address]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=quiet
        )
        url = f"http://127.0.0.1:{port}"
        try:
            end = time.monotonic() + 120
            while time.monotonic() < end:
                try:
                    httpx.get(f"{url}/health")
                    break
                except httpx.TransportError:
                    time.sleep(0.5)
            yield f"{url}/#/experiments/{made.stdout.split()[-1]}/runs"
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)
            shutil.rmtree(folder, ignore_errors=True)


# People ----------------------------------------------------------------------------------------


class Reader(threading.Thread):
    """One person: opens pages as somebody does who looks around, and keeps the time of each."""

    def __init__(self, number: int, bench: Bench, made: Filled, token: str, until: float) -> None:
        super().__init__(daemon=True)
        self.seconds: list[float] = []
        self.faults: list[str] = []
        self._chance = random.Random(number)
        self._url, self._made, self._token, self._until = bench.client.url, made, token, until

    def run(self) -> None:
        headers = {
            "Accept": "text/html",
            "Accept-Encoding": "gzip",
            "Sec-Fetch-Site": "same-origin",
        }
        cookies = {cookie_name(self._url): self._token}
        with httpx.Client(base_url=self._url, headers=headers, cookies=cookies, timeout=60) as http:
            time.sleep(self._chance.uniform(0, PAUSE[1]))
            while time.monotonic() < self._until:
                self._look(http, self._chance.choice(self._places())())
                time.sleep(self._chance.uniform(*PAUSE))

    def _places(self) -> list[Callable[[], str]]:
        base, chance = "/projects/bench", self._chance
        return [
            lambda: "/",
            lambda: base,
            lambda: f"{base}/runs",
            lambda: f"{base}/runs?state={chance.choice(['failed', 'succeeded'])}",
            lambda: f"{base}/runs/{chance.choice(self._made.run_ids)}",
            lambda: f"{base}/runs/{self._made.run_ids[0]}",
            lambda: f"{base}/datasets",
            lambda: f"{base}/pipelines",
            lambda: f"{base}/activity",
            lambda: f"{base}/members",
        ]

    def _look(self, http: httpx.Client, path: str) -> None:
        began = time.monotonic()
        try:
            answer = http.get(path)
        except httpx.HTTPError as fault:
            self.faults.append(f"{path}: {type(fault).__name__}")
            return
        self.seconds.append(time.monotonic() - began)
        if answer.status_code != 200:
            self.faults.append(f"{path}: {answer.status_code}")


def show_people(many: tuple[Bench, Filled, str], people: int, seconds: float) -> None:
    bench, made, token = many
    until = time.monotonic() + seconds
    readers = [Reader(number, bench, made, token, until) for number in range(people)]
    for reader in readers:
        reader.start()
    memory = []
    while time.monotonic() < until:
        memory.append(memory_of_tree(bench.pid) / 1e6)
        time.sleep(min(10, max(0.1, until - time.monotonic())))
    for reader in readers:
        reader.join(90)
    times = sorted(each for reader in readers for each in reader.seconds)
    faults = Counter(each for reader in readers for each in reader.faults)
    middle = len(memory) // 3
    print()
    print_table(
        [
            "people",
            "pages",
            "median, ms",
            "95th percentile, ms (aim 300)",
            "faults",
            "MB: first, third, last",
        ],
        [
            [
                people,
                len(times),
                f"{times[len(times) // 2] * 1000:.0f}",
                f"{times[int(len(times) * 0.95)] * 1000:.0f}",
                sum(faults.values()),
                " to ".join(f"{each:.0f}" for each in (memory[0], memory[middle], memory[-1])),
            ]
        ],
    )
    for text, count in faults.most_common(5):
        print(f"{count} times {text}")


if __name__ == "__main__":
    main()
