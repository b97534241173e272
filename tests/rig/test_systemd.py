"""Host and worker as real ones are: systemd starts Millpond, holds it down, and starts it again."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millpond.deploy.host import Plan, settings_text
from millpond.deploy.places import HOST_FOLDER
from millpond.deploy.wheelhouse import Wheelhouse

HERE = str(Path(__file__).parent)
sys.path.insert(0, HERE)
try:
    from rig_company import MILLPOND, Company, until
finally:
    sys.path.remove(HERE)

PIPELINE = """
import os
import time

from millpond import Table, pipeline, step


@step(memory="128 MiB")
def look(seconds: float = 0.0, mebibytes: int = 1) -> Table:
    held = b"x" * (mebibytes << 20)
    time.sleep(seconds)
    seen = sum(name.isdigit() for name in os.listdir("/proc"))
    yield {"uid": os.getuid(), "processes": seen, "bytes": len(held)}


@pipeline
def looking(seconds: float = 0.0, mebibytes: int = 1) -> Table:
    return look(seconds=seconds, mebibytes=mebibytes)
"""
HOST = Path(HOST_FOLDER)
HOST_UNITS = ("millpond-server", "millpond-scheduler")


class Firm(Company):
    """One host and one worker, started by systemd; its people work on the host."""

    def start_run(self, **parameters: float) -> str:
        words = [f"--param={name}={value}" for name, value in parameters.items()]
        return str(self.json("run", "start", "looking", *words)["id"])

    def show(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.json("run", "show", run)["run"]
        return found

    def end_of(self, run: str) -> dict[str, Any]:
        until(lambda: self.show(run)["state"] not in ("queued", "preparing", "running"), 90)
        return self.show(run)

    def tries(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("run", "tasks", run)
        return found

    def is_up(self) -> bool:
        done = self.host.run(MILLPOND, "node", "list", "--json", check=False)
        return not done.returncode and [each["state"] for each in json.loads(done.stdout)] == ["up"]


@pytest.fixture
def firm(lan: Any, key: Path, start: Callable[..., Any], wheelhouse: Wheelhouse) -> Firm:
    made = Firm(lan, key, start, ["w1"], with_systemd={"host", "w1"})
    worker = made.workers[0]
    # Load is counted for the whole machine under the rig, so that no guard may go by it.
    text = settings_text(Plan(HOST, made.host.address, keeps_on_nodes=False))
    text = text.replace('kind = "folder"', 'kind = "folder"\nfolder = "/srv/millpond objects"')
    made.host.path(str(HOST)).mkdir(mode=0o711)
    made.host.path(f"{HOST}/settings.toml").write_text(f"{text}load_most = 1000\n")
    made.write(f"root@{worker.address} name=w1 slots=2 key=company-key data=/mnt/data")
    return made


def shown(machine: Any, unit: str, what: str) -> str:
    return str(machine.run("systemctl", "show", "-p", what, "--value", unit).stdout).strip()


def assert_active(machine: Any, *units: str) -> None:
    for unit in units:
        said = machine.run("systemctl", "status", "--no-pager", unit, check=False)
        assert "Active: active (running)" in said.stdout, said.stdout
        assert shown(machine, unit, "UnitFileState") == "enabled"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_systemd_keeps_a_cluster_running_through_kills_and_reboots(firm: Firm) -> None:
    host, worker = firm.host, firm.workers[0]
    out, told = firm.bring_up()
    assert "1 of 1 machines work" in out
    assert "runs as the service millpond-worker" in told
    assert_active(host, *HOST_UNITS)
    assert_active(worker, "millpond-worker")

    # What the units forbid leaves the sandbox whole, with its limits.
    host.run("mkdir", "looking")
    host.path("/root/looking/pipeline.py").write_text(PIPELINE)
    host.run(MILLPOND, "project", "make", "first")
    host.run(MILLPOND, "pipeline", "push", "looking")
    small, large = firm.start_run(), firm.start_run(mebibytes=400)
    ended = firm.end_of(small)
    assert (ended["state"], ended["isolated"]) == ("succeeded", True), ended
    host.run(MILLPOND, "run", "outputs", small, "--output", "results")
    found = next(host.path("/root/results").rglob("*.csv"))
    (row,) = csv.DictReader(found.read_text().splitlines())
    assert int(row["processes"]) <= 3
    assert int(row["uid"]) != 0
    ended = firm.end_of(large)
    assert ended["state"] == "failed"
    assert "128" in ended["reason"], ended

    # Its worker is killed in the middle of a task: systemd starts it again, and the run ends right.
    cut = firm.start_run(seconds=4)
    until(lambda: [each["state"] for each in firm.tries(cut)] == ["running"], 30)
    before = shown(worker, "millpond-worker", "MainPID")
    worker.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "millpond-worker")
    ended = firm.end_of(cut)
    assert ended["state"] == "succeeded", ended
    assert [each["state"] for each in firm.tries(cut)].count("done") == 1
    assert shown(worker, "millpond-worker", "MainPID") not in ("0", before)
    assert shown(worker, "millpond-worker", "NRestarts") == "1"

    # Everything is started again by hand, then the worker reboots and the host loses its power.
    worker.run("systemctl", "restart", "millpond-worker")
    host.run("systemctl", "restart", *HOST_UNITS)
    until(firm.is_up, 60)
    worker.reboot()
    host.stop()
    host.start()
    until(firm.is_up, 60)
    assert_active(host, *HOST_UNITS)
    assert_active(worker, "millpond-worker")
    assert firm.end_of(firm.start_run())["state"] == "succeeded"

    # Removed, systemd knows nothing of it any more.
    host.run(MILLPOND, "node", "remove", "w1", "--force", "--yes")
    until(lambda: not worker.path("/opt/millpond").exists(), 60)
    assert shown(worker, "millpond-worker", "LoadState") == "not-found"
    assert shown(worker, "millpond-worker", "ActiveState") == "inactive"
