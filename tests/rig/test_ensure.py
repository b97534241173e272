"""Bare machines become nodes-to-be over SSH: told before, done once, refused with all reasons."""

import re
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version as version_of
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millpond.deploy.ssh_source import SshSource
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.ground.errors import BusyError, ConflictError, InvalidError
from millpond.machines.port import JoinTicket, Machine, MachineOrder, MachineStep

VERSION = version_of("millpond")
START = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("laptop")


class Told(list[MachineStep]):
    """What a source has told."""

    def __call__(self, step: MachineStep) -> None:
        self.append(step)

    def of(self, name: str) -> list[str]:
        return [step.state for step in self if step.name == name]


def no_ticket() -> JoinTicket:
    raise BusyError("No server here.", next_step="Start one.")


@pytest.fixture
def source(tmp_path: Path, wheelhouse: Wheelhouse) -> SshSource:
    return SshSource(tmp_path / "keys", wheelhouse, version=VERSION, installation=lambda: "AB")


def order_for(machine: Any, key: Path, **more: Any) -> MachineOrder:
    return MachineOrder(
        "ssh", "add", "machine-1", machine.name, address=machine.address, key_file=str(key), **more
    )


@pytest.mark.slow
def test_a_bare_machine_is_told_what_it_gets_and_gets_it_once_without_internet(
    start: START, key: Path, source: SshSource, rig: ModuleType
) -> None:
    machine = start("one")
    order = order_for(machine, key, data_disk="/mnt/data/objects")
    before = machine.run("sh", "-c", "ls -R /opt /var/lib /etc | sort").stdout
    told = Told()
    found = source.create(order, told)
    assert machine.run("sh", "-c", "ls -R /opt /var/lib /etc | sort").stdout == before
    assert told[-1].name == "plan"
    for words in ("python3 from the host's wheelhouse", "bubblewrap", f"Millpond {VERSION}",
                  "make the folder /mnt/data/objects", "join as one", "loop in the background"):  # fmt: skip
        assert words in told[-1].text
    assert found.host_key.startswith("SHA256:")

    told = Told()
    with pytest.raises(BusyError, match="No server"):
        source.join(found, no_ticket, told)
    for name in ("python", "sandbox", "millpond", "disk"):
        assert told.of(name) in (["begun", "done"], ["skipped"]), told
    # Python comes with bubblewrap: one set of packages has both.
    assert told.of("python") == ["begun", "done"]
    current = machine.run("readlink", "-f", "/opt/millpond/current").stdout.strip()
    assert current.startswith(f"/opt/millpond/{VERSION}-")
    said = machine.run(f"{current}/bin/millpond", "--version").stdout
    assert VERSION in said
    probe = (
        "from millpond.engine.probe import probe_machine;"
        "print([each.works for each in probe_machine().abilities])"
    )
    assert machine.run(f"{current}/bin/python", "-c", probe).stdout == "[True, True, True]\n"
    assert machine.run("stat", "-c", "%a", "/mnt/data/objects").returncode == 0

    # Again: all is there. One thing gone: that one is made again.
    told = Told()
    with pytest.raises(BusyError, match="No server"):
        source.join(found, no_ticket, told)
    for name in ("python", "sandbox", "millpond", "disk"):
        assert told.of(name) == ["skipped"], name
    machine.run("rm", f"{current}/.complete")
    told = Told()
    with pytest.raises(BusyError, match="No server"):
        source.join(found, no_ticket, told)
    assert told.of("millpond") == ["begun", "done"]

    # Another name: this machine is refused by nobody yet, since it has not joined.
    machine.run("mkdir", "-p", "/var/lib/millpond-node")
    config = '{"name": "two", "installation": "CD", "url": "https://elsewhere:8787"}'
    machine.path("/var/lib/millpond-node/node.json").write_text(config)
    with pytest.raises(ConflictError, match="node two of another installation") as raised:
        source.create(order, Told())
    assert "millpond node remove two" in raised.value.next_step

    # Taken off, only its data stay; a machine that is gone is no fault.
    machine.path("/mnt/data/objects/kept").write_text("kept")
    source.remove(found, told)
    assert machine.run("sh", "-c", "ls /opt; ls /var/lib | grep millpond", check=False).stdout == ""
    assert machine.path("/mnt/data/objects/kept").read_text() == "kept"
    machine.stop()
    told = Told()
    source.remove(found, told)
    assert [step.state for step in told] == ["warning"]


@pytest.mark.slow
def test_what_stands_against_a_machine_is_said_all_at_once_and_nothing_is_changed(
    start: START, key: Path, source: SshSource, rig: ModuleType
) -> None:
    machine = start("one", system_bytes=900 * rig.MIB, memory_bytes=rig.GIB)
    order = order_for(machine, key, data_disk="/mnt/data")
    # A clock that is an hour ahead, as the machine's own programs tell it.
    fake = '#!/bin/sh\n[ "$1" = +%s ] && exec /bin/date -d \'+1 hour\' +%s\nexec /bin/date "$@"\n'
    machine.path("/usr/local/bin/date").write_text(fake)
    machine.run("chmod", "+x", "/usr/local/bin/date")
    machine.run("sh", "-c", "rm -rf /mnt/data/*; head -c 1900M /dev/zero >/mnt/data/full")
    # Another program listens where the node would: sshd itself, on one more port.
    machine.run("/usr/sbin/sshd", "-p", "8789")
    told = Told()
    with pytest.raises(InvalidError, match="cannot become a node") as raised:
        source.create(order, told)
    found = {fault.field: fault.message for fault in raised.value.faults}
    assert "1 h 0 min ahead" in found["clock"]
    assert re.search(r"/opt/millpond has \d+ MB free", found["room"])
    assert re.search(r"/mnt/data has [\d.]+ MB free", found["room"])
    assert "8789 (worker) is taken" in found["ports"]
    for step in ("timedatectl", "Make room", "ss -ltnp"):
        assert step in raised.value.next_step
    assert {step.name for step in told if step.state == "failed"} == {"clock", "room", "ports"}
    with pytest.raises(InvalidError):  # The same when somebody skips the look.
        source.join(Machine(order, machine.address), no_ticket, told)
    assert machine.run("sh", "-c", "ls /opt").stdout == ""


@pytest.mark.slow
def test_a_machine_whose_python_is_too_old_and_has_no_packages_is_refused(
    start: START, key: Path, tmp_path: Path, wheelhouse: Wheelhouse
) -> None:
    machine = start("one")
    machine.path("/usr/bin/python3").write_text('#!/bin/sh\necho "/usr/bin/python3 3.9.2"\n')
    machine.run("chmod", "+x", "/usr/bin/python3")
    machine.run("rm", "/usr/bin/apt-get", "/usr/bin/apt-cache")
    machine.path("/usr/lib/os-release").write_text("ID=debian\nPRETTY_NAME=Old\n")
    source = SshSource(tmp_path / "keys", wheelhouse, version=VERSION, installation=lambda: "AB")
    with pytest.raises(InvalidError) as raised:
        source.create(order_for(machine, key), Told())
    found = {fault.field: fault.message for fault in raised.value.faults}
    assert found["python"] == "has Python 3.9.2; 3.11 or newer is needed"
    assert "Use Debian 12" in raised.value.next_step


@pytest.mark.slow
def test_a_disk_that_fills_up_meanwhile_is_told_and_the_rest_follows_later(
    start: START, key: Path, source: SshSource, rig: ModuleType
) -> None:
    machine = start("one", system_bytes=3 * rig.GIB)
    order = replace(order_for(machine, key), host_key="")
    found = source.create(order, Told())
    # Room for Python and the packages, not for what they unpack to.
    machine.run("sh", "-c", "fallocate -l 1G /var/fill")

    class Filling(Told):
        def __call__(self, step: MachineStep) -> None:
            if step.name == "millpond" and step.state == "begun":
                machine.run("sh", "-c", "fallocate -l $(($(df -Pk / | sed -n 2p | tr -s ' ' |"
                            " cut -d' ' -f4) - 150000))K /var/more")  # fmt: skip
            super().__call__(step)

    with pytest.raises(ConflictError) as raised:
        source.join(found, no_ticket, Filling())
    assert "No space left" in raised.value.message or "did not arrive whole" in raised.value.message
    machine.run("rm", "/var/fill", "/var/more")
    told = Told()
    with pytest.raises(BusyError, match="No server"):
        source.join(found, no_ticket, told)
    assert told.of("python") == ["skipped"]
    assert told.of("millpond") == ["begun", "done"]
