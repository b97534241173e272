"""The rig of bare machines itself: they are bare, apart from each other, and leave nothing."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def ssh(lan: Any, key: Path, machine: Any, command: str) -> subprocess.CompletedProcess[str]:
    options = ["BatchMode=yes", "StrictHostKeyChecking=accept-new", "ConnectTimeout=2",
               f"UserKnownHostsFile={lan.folder}/known"]  # fmt: skip
    words = ["ssh", "-i", key, *(f"-o{each}" for each in options), f"root@{machine.address}"]
    return subprocess.run(
        lan.on_laptop([*words, command]), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.slow
def test_a_machine_has_only_what_debian_has_at_least_and_its_own_everything(
    lan: Any, key: Path, start: Callable[..., Any], rig: ModuleType
) -> None:
    one, two = start("one", memory_bytes=256 * rig.MIB, data_bytes=64 * rig.MIB), start("two")
    said = ssh(lan, key, one, "hostname; command -v python3 bwrap ip curl; cat /proc/1/comm")
    assert said.stdout.split() == ["one", "bash"]
    assert ssh(lan, key, two, f"ssh-keyscan -T 2 {one.address} 2>&1 | wc -l").stdout.strip() != "0"

    # Nothing leads out of the switch, and the disks are as large as they are.
    assert "unreachable" in ssh(lan, key, one, "echo >/dev/tcp/192.0.2.1/80").stderr
    full = ssh(lan, key, one, "head -c 100M /dev/zero >/mnt/data/file")
    assert "No space left" in full.stderr

    # A program that takes more memory than the machine has is ended there.
    taken = ssh(lan, key, one, "head -c 600M /dev/zero | tail >/dev/null; echo ${PIPESTATUS[1]}")
    assert taken.stdout.strip() == "137"

    # Without its cable nothing reaches it; with it all goes on.
    one.cut()
    assert ssh(lan, key, one, "true").returncode == 255
    one.mend()
    assert ssh(lan, key, one, "true").returncode == 0

    # After its plug was pulled its disks hold what they held.
    one.run("sh", "-c", "echo kept >/root/note; sync")
    one.stop()
    assert ssh(lan, key, one, "true").returncode == 255
    one.start()
    assert ssh(lan, key, one, "cat /root/note").stdout.strip() == "kept"


KILLED = """
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("rig", sys.argv[1])
rig = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rig)
lan = rig.Lan(Path(sys.argv[2]), rig.make_base(Path(sys.argv[2])))
lan.add("one").start()
print(lan.run_id, flush=True)
input()
"""


@pytest.mark.slow
def test_what_a_killed_run_left_is_swept_by_the_next(rig: ModuleType, rig_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(rig.__file__), str(rig_folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout
        run_id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    left = rig_folder / f"run-{run_id}"
    assert left.exists()
    assert f"run-{run_id}" in rig.sweep(rig_folder)
    assert not left.exists()
    assert run_id not in rig.sh("ip", "netns", "list").stdout
    assert run_id not in rig.sh("losetup", "-a").stdout
    assert not list(Path("/sys/fs/cgroup").glob(f"*/*{run_id}*"))


@pytest.mark.slow
def test_a_rig_that_cannot_start_a_machine_says_what_the_machine_said(
    lan: Any, rig: ModuleType
) -> None:
    machine = lan.add("one")
    (machine.folder / "data.img").write_bytes(b"no file system")
    with pytest.raises(rig.RigError, match="one does not start"):
        machine.start()
