"""Loops where no systemd runs: started, started again by cron, their logs bounded."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from tests.deploy.test_judging import READY, WANTED

from millpond.deploy import background, judging, places
from millpond.deploy.facts import Facts, read_facts
from millpond.deploy.mending import be_steady
from millpond.deploy.target import Here

WORDS = "-m millpond.deploy.loop -c 'import time; print(1, flush=True); time.sleep(600)'"


class Machine:
    """This machine, with a folder of its own and a cron that never starts anything by itself."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "it's 100%"
        self.crons = root / "cron.d"
        self.crond = root / "crond"
        self.folder.mkdir()
        self.crons.mkdir()
        self.here = Here()

    def start(self) -> int:
        background.start_loop(self.here, str(self.folder), WORDS, "server", be_steady=be_steady)
        return self.pid()

    def pid(self) -> int:
        return int((self.folder / "server.pid").read_text())

    def forget(self) -> None:
        done = self.here.run(background.forget_loop(str(self.folder), "server"))
        assert not done.code

    @property
    def cron(self) -> Path:
        return Path(places.cron_file(str(self.folder), "server"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path)
    monkeypatch.setattr(places, "CRON_FOLDER", str(made.crons))
    monkeypatch.setattr(background, "CURRENT_PYTHON", sys.executable)
    monkeypatch.setattr(background, "IS_CRON_THERE", f"[ -e {shlex.quote(str(made.crond))} ]")
    yield made
    made.forget()


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_a_loop_is_started_with_its_machine_where_cron_runs(machine: Machine) -> None:
    machine.crond.touch()
    first = machine.start()
    assert runs(first)
    assert machine.cron.name.startswith("millpond-server-")
    assert "." not in machine.cron.name, "cron leaves out files whose names have a dot"
    assert machine.cron.stat().st_mode & 0o777 == 0o644
    path, line = machine.cron.read_text().splitlines()[1:]
    assert path.startswith("PATH=/usr/local/sbin:")
    when, user, command = line.split(" ", 2)
    assert (when, user) == ("@reboot", "root")
    os.killpg(first, signal.SIGKILL)  # The machine goes down; all files stay.
    # As cron does it: what follows a bare per cent sign would be fed, and an escaped one is one.
    subprocess.run(
        ["/bin/sh", "-c", command.replace(r"\%", "%")],
        env={"PATH": path.removeprefix("PATH=")},
        cwd="/",
        check=True,
        timeout=60,
    )
    second = machine.pid()
    assert second != first
    assert runs(second)
    third = machine.start()
    assert not runs(second), "the one before was stopped"
    machine.forget()
    assert not runs(third)
    assert [each.name for each in machine.folder.iterdir()] == ["server.log"]
    assert list(machine.crons.iterdir()) == []


@pytest.mark.slow
def test_without_cron_nothing_is_left_to_it(machine: Machine) -> None:
    machine.cron.write_text("# of a time when cron ran\n")
    pid = machine.start()
    assert runs(pid)
    assert list(machine.crons.iterdir()) == []


def test_the_plan_tells_whether_a_loop_starts_again() -> None:
    def service(facts: Facts) -> tuple[str, str]:
        found = judging.judge_service(facts, WANTED)
        return found.state, found.text

    bare = replace(READY, has_systemd=False, is_running=False)
    state, text = service(bare)
    assert state == "due"
    assert "nothing starts again with the machine: install and start cron" in text
    state, text = service(replace(bare, has_cron=True))
    assert state == "due"
    assert "which cron starts again with the machine" in text
    assert service(replace(READY, has_systemd=False))[0] == "fine"
    assert service(replace(READY, has_systemd=False, has_cron=True))[0] == "due"
    with_line = replace(READY, has_systemd=False, has_cron=True, is_in_cron=True)
    assert service(with_line)[0] == "fine"
    assert "cron" not in service(replace(READY, is_running=False))[1], "systemd starts services"


def test_two_installations_have_two_lines_of_cron() -> None:
    assert places.cron_file("/a", "server") != places.cron_file("/b", "server")
    assert places.NODE_CRON_FILE.startswith("/etc/cron.d/millpond-supervise-")


def test_cron_is_seen_where_it_runs(tmp_path: Path) -> None:
    number = tmp_path / "crond.pid"
    text = places.IS_CRON_THERE.replace("/run/crond.pid", shlex.quote(str(number)))
    text = text.replace(places.CRON_FOLDER, shlex.quote(str(tmp_path)))
    assert Here().run(text).code
    number.write_text("999999999\n")
    assert Here().run(text).code, "it ran once"
    number.write_text(f"{os.getpid()}\n")
    assert not Here().run(text).code


def test_what_was_seen_of_cron_is_read() -> None:
    found = read_facts("it", "machine=x\ncron=yes\ncron_starts=yes\n", 0)
    assert (found.has_cron, found.is_in_cron) == (True, True)
    found = read_facts("it", "machine=x\n", 0)
    assert (found.has_cron, found.is_in_cron) == (False, False)
