"""Five bare machines on a switch, for tests that need real hosts."""

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from millpond.deploy.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[2]


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rig", Path(__file__).with_name("rig.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["rig"] = module  # Its data classes look themselves up there.
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rig() -> ModuleType:
    """Give the module that makes machines; without root or tools there is none, visibly."""
    module = _load()
    if reason := module.why_not():
        if os.environ.get("MILLPOND_TEST_STRICT") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return module


@pytest.fixture(scope="session")
def rig_folder() -> Path:
    """Give where root file systems and disks lie: not in memory, and kept for the next time."""
    return ROOT / ".dev" / "rig"


@pytest.fixture
def lan(rig: ModuleType, rig_folder: Path) -> Iterator[Any]:
    """Give a switch without machines; all that hangs on it goes at the end."""
    with rig.open_lan(rig_folder) as opened:
        yield opened


@pytest.fixture
def key(lan: Any, rig: ModuleType) -> Path:
    """Give the private key of whoever owns the machines."""
    path: Path = lan.folder / "owner"
    rig.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", path)
    return path


@pytest.fixture
def start(lan: Any, key: Path) -> Callable[..., Any]:
    """Make a machine that its owner can sign in to, and switch it on."""

    def make(name: str, **more: Any) -> Any:
        machine = lan.add(name, **more)
        machine.start()
        machine.trust(key.with_suffix(".pub").read_text().strip())
        return machine

    return make


@pytest.fixture
def laptop(lan: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Plug this machine into the switch as far as SSH goes; give the switch."""
    folder = lan.folder / "bin"
    folder.mkdir()
    program = folder / "ssh"
    words = " ".join(lan.on_laptop(["/usr/bin/ssh"]))
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lan


@pytest.fixture(scope="session")
def wheelhouse(rig: ModuleType) -> Wheelhouse:
    """Give what nodes are installed from, gathered by this machine's own indexes, kept."""
    house = Wheelhouse(ROOT / ".dev" / "wheelhouse")
    house.gather_wheel()
    house.gather_debs()
    house.gather("x86_64", "3.11")
    return house
