"""From bare root file systems with only an SSH server: one command, and a cluster that stays.

This is what docs/guides/five-bare-machines.md tells step by step.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from millpond.deploy.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[2]
MILLPOND = "/opt/millpond/current/bin/millpond"
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


class Company:
    """A host and its workers, as a company has them: bare."""

    def __init__(self, lan: Any, key: Path, start: Callable[..., Any], workers: int) -> None:
        self.host = start("host", memory_bytes=4 << 30)
        self.workers = [start(f"w{number}") for number in range(1, workers + 1)]
        self.list = Path("/root/machines.txt")
        clone = lan.folder / "checkout"
        subprocess.run(["git", "clone", "--quiet", "--local", str(ROOT), str(clone)], check=True)
        home = self.host.path("/root")
        shutil.copytree(clone, home / "millpond", symlinks=True)
        shutil.copytree(ROOT / ".dev" / "wheelhouse", home / "millpond" / ".dev" / "wheelhouse")
        shutil.copy(key, home / "company-key")
        (home / "company-key").chmod(0o600)
        # Two machines of which one dies cannot keep two copies: there, data lie on the host.
        data = " data=/mnt/data" if workers > 2 else ""
        lines = [
            f"root@{each.address} name={each.name} slots=2 key=company-key{data}"
            for each in self.workers
        ]
        self.write("# The company's machines", *lines)

    def write(self, *lines: str) -> None:
        self.host.path(str(self.list)).write_text("\n".join(lines) + "\n")

    def bring_up(self, *more: str, code: int = 0) -> tuple[str, str]:
        # Load is counted for this whole machine, so that no guard may go by it here.
        given = f"MILLPOND_CLUSTER_LOAD_MOST=1000 ./dev cluster {self.list} {' '.join(more)}"
        command = f"cd /root/millpond && {given}"
        done = self.host.run("sh", "-c", command, check=False, seconds=900)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self.host.run(MILLPOND, *words, "--json").stdout)

    def states(self) -> dict[str, str]:
        return {node["name"]: node["state"] for node in self.json("node", "list")}


@pytest.fixture
def company(
    request: pytest.FixtureRequest, lan: Any, key: Path, start: Callable[..., Any],
    wheelhouse: Wheelhouse,
) -> Company:  # fmt: skip
    return Company(lan, key, start, request.param)


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


def until(is_so: Callable[[], Any], seconds: float) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.3)
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("company", [2, pytest.param(4, id="full")], indirect=True)
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


def change_version(house: Path, version: str, *, is_broken: bool = False) -> None:
    """Make Millpond's own wheel in a wheelhouse one of another version, or one that cannot start."""
    manifest = json.loads((house / "manifest.json").read_text())
    before = house / "wheels" / manifest["wheel"]["name"]
    after = before.with_name(f"millpond-{version}-py3-none-any.whl")
    old, record = f"millpond-{manifest['version']}.dist-info/", []
    with zipfile.ZipFile(before) as source, zipfile.ZipFile(after, "w") as target:
        for name in source.namelist():
            data, kept = source.read(name), name.replace(old, f"millpond-{version}.dist-info/")
            if kept.endswith("dist-info/METADATA"):
                data = re.sub(rb"(?m)^Version: .*$", f"Version: {version}".encode(), data, count=1)
            elif kept == "millpond/worker.py" and is_broken:
                data = b"raise SystemExit('This version cannot start.')\n"
            if not kept.endswith("/RECORD"):
                target.writestr(kept, data)
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
                record.append(f"{kept},sha256={digest.decode()},{len(data)}")
        name = f"millpond-{version}.dist-info/RECORD"
        target.writestr(name, "\n".join([*record, f"{name},,"]) + "\n")
    digest = hashlib.sha256(after.read_bytes()).hexdigest()
    manifest |= {"version": version, "wheel": {"name": after.name, "sha256": digest}}
    (house / "manifest.json").write_text(json.dumps(manifest))
    for key in manifest["targets"]:
        Wheelhouse(house)._write_lock(manifest, key)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("company", [1], indirect=True)
def test_a_new_version_comes_beside_the_old_which_runs_again_when_the_new_does_not(
    company: Company,
) -> None:
    worker = company.workers[0]
    house = company.host.path("/root/millpond/.dev/wheelhouse")

    def running() -> str:
        return worker.run("readlink", "/opt/millpond/current").stdout.strip()

    _, told = company.bring_up("--dry-run")
    assert re.search(r"ok  w1 +plan .*join as w1", told)
    assert worker.run("ls", "/opt").stdout == ""
    company.bring_up()
    first = running()

    change_version(house, "0.9.1")
    out, told = company.bring_up()
    assert "runs this version now" in out
    second = running()
    assert second.startswith("0.9.1-")
    assert company.json("node", "list")[0]["version"] == "0.9.1"
    assert worker.path(f"/opt/millpond/{first}").is_dir()  # To go back to.

    change_version(house, "0.9.2", is_broken=True)
    out, told = company.bring_up(code=1)
    assert running() == second
    assert "does not stay up on root@" in out + told
    assert "This version cannot start." in out + told
    assert "0 of 1 machines work" in out

    _, told = company.bring_up("--doctor")
    assert re.search(rf"ok  w1 +service +runs {second}", told)
    worker.run("sh", "-c", "kill $(cat /var/lib/millpond-node/supervise.pid)")
    _, told = company.bring_up("--doctor", code=1)
    assert re.search(r"XX  w1 +service +does not run", told)

    # Removed, nothing of it is left on the machine, and its certificate is good for nothing.
    company.host.run(MILLPOND, "node", "remove", "w1", "--force", "--yes")
    until(lambda: not worker.path("/opt/millpond").exists(), 60)
    assert not worker.path("/var/lib/millpond-node").exists()
    assert company.states() == {}
