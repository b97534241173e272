"""From bare root file systems with only an SSH server: one command, and a cluster that stays.

This is what docs/guides/five-bare-machines.md tells step by step.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from millpond.deploy.wheelhouse import Wheelhouse

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
try:
    from rig_company import MILLPOND, Company, change_version, until
finally:
    sys.path.remove(HERE)

NAMES = ("w1", "w2", "w3", "w4")
PASSWORD = "a long word for anna"
PIPELINE = '''
import time

from millpond import Files, Table, pipeline, step


@step(map=True, files_per_task=1, memory="128 MiB")
def measure(files: Files, seconds: float = 0.0) -> Table:
    for file in files:
        print("measuring", file.name, flush=True)
        time.sleep(seconds)
        yield {"path": file.name, "length": len(file.read_bytes())}


@pipeline
def lengths(files: Files, seconds: float = 0.0) -> Table:
    """How long is each file?"""
    return measure(files, seconds=seconds)
'''


class Laptop:
    """A newcomer's own machine, on the same network."""

    def __init__(self, lan: Any, folder: Path) -> None:
        self.lan, self.folder = lan, folder
        self.environ = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}

    def run(self, *words: str, told: str = "", code: int = 0) -> str:
        done = subprocess.run(
            self.lan.on_laptop([sys.executable, "-m", "millpond", *words]),
            cwd=self.folder, env=self.environ, input=told, text=True, capture_output=True,
            check=False, timeout=240,
        )  # fmt: skip
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json"))


@pytest.fixture
def company(
    request: pytest.FixtureRequest, lan: Any, key: Path, start: Callable[..., Any],
    wheelhouse: Wheelhouse,
) -> Company:  # fmt: skip
    return Company(lan, key, start, request.param, with_systemd={"sys"})


@pytest.fixture
def browser(lan: Any) -> Iterator[Any]:
    """Give a browser on the network of the machines."""
    program = lan.folder / "chromium"
    program.write_text(
        '#!/bin/sh\nexec {} "$@"\n'.format(" ".join(lan.on_laptop(["/usr/bin/chromium"])))
    )
    program.chmod(0o755)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-quic"]
        )
        yield opened.new_context(ignore_https_errors=True)
        opened.close()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("company", [NAMES[:2], pytest.param(NAMES, id="full")], indirect=True)
def test_one_command_makes_bare_machines_a_cluster_that_outlives_a_worker(  # noqa: PLR0915 - one story.
    company: Company, lan: Any, browser: Any, tmp_path: Path
) -> None:
    names = [each.name for each in company.workers]
    out, told = company.bring_up()
    assert f"{len(names)} of {len(names)} machines work" in out
    for name in names:
        for step in ("python", "sandbox", "millpond", "membership", "service", "heartbeat"):
            assert re.search(rf"ok  {name} +{step}", told), (name, step)
    assert company.states() == dict.fromkeys(names, "up")
    link = next(iter(re.findall(r"https://\S+/\S*code=\S+", out)))
    url = re.findall(r"The portal: (\S+)", out)[0]
    fingerprint = re.findall(r"to pin: (\w{64})", out)[0]

    # The first administrator chooses a password, and sees the machines.
    page = browser.new_page()
    page.goto(link)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same password again").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url(lambda at: "reset" not in at)
    page.goto(f"{url}/admin/nodes")
    shown = page.locator("main").inner_text()
    assert all(name in shown for name in names)

    # A newcomer gets an account, and from their own machine runs something on their own data.
    company.host.run(MILLPOND, "user", "add", "anna", text=f"{PASSWORD}\n")
    tmp_path.joinpath("work").mkdir()
    anna = Laptop(lan, tmp_path / "work")
    anna.run("login", url, "--user", "anna", "--fingerprint", fingerprint, told=PASSWORD + "\n")
    anna.run("project", "make", "first")
    (anna.folder / "lengths").mkdir()
    (anna.folder / "lengths" / "pipeline.py").write_text(PIPELINE)
    anna.run("pipeline", "push", "lengths")
    (anna.folder / "notes").mkdir()
    for number in range(24):
        (anna.folder / "notes" / f"{number:02}.txt").write_text("x" * number)
    started = anna.json("run", "lengths", "--input", "files=./notes", "--param", "seconds=2")

    def tasks() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = anna.json("run", "tasks", started["id"])
        return found

    def spread() -> bool:
        done = Counter(task["node"] for task in tasks() if task["state"] == "done")
        return set(names) <= set(done) and sum(done.values()) >= 6

    until(spread, 120)

    # In the middle of it a cable is pulled. The run ends right all the same.
    cut = company.workers[-1]
    cut.cut()
    cut_at = time.monotonic()
    until(
        lambda: (
            anna.json("run", "show", started["id"])["run"]["state"] not in ("queued", "running")
        ),
        200,
    )
    took = time.monotonic() - cut_at
    ended = anna.json("run", "show", started["id"])["run"]
    assert ended["state"] == "succeeded", ended
    print(f"{len(names)} workers: ended {took:.0f} s after the cable was pulled")
    done = [task for task in tasks() if task["step"] == "measure" and task["state"] == "done"]
    assert len(done) == len({task["partition"] for task in done}) == 24
    again = [task for task in tasks() if task["state"] != "done"]
    assert all(cut.name in task["reason"] for task in again), again
    print(f"{len(again)} tries were lost with it")

    # Its outputs come from the host, although a machine that held some is away.
    anna.run("run", "outputs", started["id"], "--output", "results")
    rows = next((anna.folder / "results").rglob("*.csv")).read_text().split()
    assert sorted(rows[1:]) == sorted(f"{number:02}.txt,{number}" for number in range(24))
    until(lambda: company.states()[cut.name] in ("suspect", "lost"), 90)
    page.reload()
    row = page.get_by_role("row").filter(has_text=cut.name).first.inner_text()
    assert re.search("suspect|lost", row, re.IGNORECASE), row

    # The cable is back: so is the node. The command again finds nothing to do.
    cut.mend()
    until(lambda: set(company.states().values()) == {"up"}, 90)
    begun = time.monotonic()
    out, told = company.bring_up()
    assert out.count("is up already") == len(names)
    assert "Choose your password" not in out
    print(f"again: {time.monotonic() - begun:.0f} s")

    # A second installation on the same host is refused, and changes nothing.
    _, told = company.bring_up("--data", "/srv/second", code=2)
    assert "Something listens here already on port 8787 (portal)" in told
    assert not company.host.path("/srv/second").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("company", [("w1", "sys")], indirect=True)
def test_a_new_version_comes_beside_the_old_which_runs_again_when_the_new_does_not(
    company: Company,
) -> None:
    """One worker's service is a loop, the other's is systemd's."""
    loop, managed = company.workers
    house = company.host.path("/root/millpond/.dev/wheelhouse")

    def running() -> str:
        found = {
            worker.run("readlink", "/opt/millpond/current").stdout.strip()
            for worker in company.workers
        }
        assert len(found) == 1, found
        return found.pop()

    _, told = company.bring_up("--dry-run")
    for worker in company.workers:
        assert re.search(rf"ok  {worker.name} +plan .*join as {worker.name}", told)
        assert worker.run("ls", "/opt").stdout == ""
    company.bring_up()
    first = running()
    # Whoever is root on the host finds its data, with an environment as bare as it may be.
    bare = ["env", "-i", "HOME=/nowhere", MILLPOND, "doctor", "--offline", "--json"]
    doctor = company.host.run(*bare, check=False).stdout
    found = {each["name"]: each for each in json.loads(doctor)}
    assert "free for /var/lib/millpond" in found["disk"]["meaning"]
    assert found["data folder"]["state"] == "ok"
    assert found["server"]["state"] == "ok", found["server"]

    change_version(house, "0.9.1")
    company.bring_up()
    assert running().startswith("0.9.1-")
    for worker in company.workers:
        assert worker.path(f"/opt/millpond/{first}").is_dir()  # To go back to.

    # Other code of the same number is another version, too.
    version = change_version(house, "0.9.1", b"# This line is new.\n")
    out, told = company.bring_up()
    assert out.count("runs this version now") == 2
    second = running()
    assert {node["version"] for node in company.json("node", "list")} == {version}
    for worker in company.workers:
        found = worker.path(f"/opt/millpond/{second}").rglob("millpond/ground/clock.py")
        assert "This line is new." in next(found).read_text()

    change_version(house, "0.9.2", is_broken=True)
    out, told = company.bring_up(code=1)
    assert running() == second
    assert (out + told).count("does not stay up on root@") == 4  # Told at once, and at the end.
    assert (out + told).count("This version cannot start.") >= 2
    assert "0 of 2 machines work" in out

    managed.run("systemctl", "stop", "millpond-worker")
    _, told = company.bring_up("--doctor", code=1)
    assert re.search(rf"ok  {loop.name} +service +runs {second}", told)
    assert re.search(rf"XX  {managed.name} +service +does not run", told)
    loop.run("sh", "-c", "kill $(cat /var/lib/millpond-node/supervise.pid)")
    _, told = company.bring_up("--doctor", code=1)
    assert re.search(rf"XX  {loop.name} +service +does not run", told)

    # Removed, nothing of it is left on the machine, and its certificate is good for nothing.
    for worker in company.workers:
        company.host.run(MILLPOND, "node", "remove", worker.name, "--force", "--yes")
        until(lambda worker=worker: not worker.path("/opt/millpond").exists(), 60)
        assert not worker.path("/var/lib/millpond-node").exists()
    assert not managed.path("/etc/systemd/system/millpond-worker.service").exists()
    assert managed.run("systemctl", "is-active", "millpond-worker", check=False).returncode
    assert company.states() == {}
