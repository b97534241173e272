"""A company for the benches: bare machines in namespaces, made a cluster over SSH.

It takes the machines from ``tests/rig``. Their network has no way out; whoever opens a company is
moved onto it, so that its connections from then on go over the switch, as a laptop's would.
"""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
from measuring import clean

from millpond.client.client import Client
from millpond.client.trust import fingerprint_of
from millpond.deploy.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[1]
MILLPOND = "/opt/millpond/current/bin/millpond"
DATA, NODE = "/var/lib/millpond", "/var/lib/millpond-node"
_PASSWORD = "a long password of ana"
_NEW_NETWORK = 0x40000000


@dataclass
class Company:
    """Host and workers, a client of an administrator, and how long it took to get here."""

    rig: ModuleType
    lan: Any
    host: Any
    workers: list[Any]
    folder: Path
    client: Client
    seconds: dict[str, float] = field(default_factory=dict)

    def worker(self, name: str) -> Any:
        return next(each for each in self.workers if each.name == name)

    def states(self) -> dict[str, str]:
        return {node.name: node.state for node in self.client.nodes.list()}

    def wait_up(self, seconds: float = 120) -> None:
        """Wait until every worker takes tasks."""
        until(lambda: set(self.states().values()) == {"up"}, seconds)

    def has_two_of_everything(self) -> bool:
        found = self.client.system.findings()["findings"]
        return any(each["name"] == "copies" and each["state"] == "ok" for each in found)

    def processes(self, machine: Any, word: str = "") -> list[psutil.Process]:
        """Give the processes of a machine whose command has this word."""
        found = []
        for pid in self.rig.sh("ip", "netns", "pids", machine.namespace).stdout.split():
            with suppress(psutil.Error):
                process = psutil.Process(int(pid))
                if word in " ".join(process.cmdline()):
                    found.append(process)
        return found


def until(is_so: Callable[[], Any], seconds: float, pause: float = 0.2) -> Any:
    end = time.monotonic() + seconds
    while not (found := is_so()):
        if time.monotonic() > end:
            raise SystemExit(f"not so after {seconds:.0f} s")
        time.sleep(pause)
    return found


def load_rig() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rig", ROOT / "tests" / "rig" / "rig.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["rig"] = module
    spec.loader.exec_module(module)
    if reason := module.why_not():
        raise SystemExit(reason)
    return module


@contextmanager
def open_company(workers: int, slots: int, settings: dict[str, str]) -> Iterator[Company]:
    """Make the machines, bring them up by the one command, sign in; remove all of it at the end."""
    rig = load_rig()
    _gather()
    with rig.open_lan(ROOT / ".dev" / "rig") as lan:
        began = time.monotonic()
        machines = [lan.add("host", memory_bytes=4 * rig.GIB)]
        machines += [lan.add(f"w{number}") for number in range(1, workers + 1)]
        key = lan.folder / "owner"
        rig.sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        for machine in machines:
            machine.start()
            machine.trust(key.with_suffix(".pub").read_text().strip())
        _check_out(lan, machines, key, slots)
        seconds = {"machines made": time.monotonic() - began}
        given = " ".join(f"MILLPOND_{name.upper()}={each}" for name, each in settings.items())
        command = f"cd /root/millpond && {given} ./dev cluster /root/machines.txt"
        for name in ("brought up", "the same again"):
            began = time.monotonic()
            done = machines[0].run("sh", "-c", command, check=False, seconds=1200)
            if done.returncode:
                raise SystemExit(f"no cluster:\n{done.stdout}\n{done.stderr}")
            seconds[name] = time.monotonic() - began
            (lan.folder / f"{name.split()[0]}.log").write_text(done.stderr)
            print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr)
        folder = lan.folder / "laptop"
        folder.mkdir()
        with _on_network(lan), _sign_in(machines[0], folder) as client:
            yield Company(rig, lan, machines[0], machines[1:], folder, client, seconds)


def _gather() -> None:
    house = Wheelhouse(ROOT / ".dev" / "wheelhouse")
    house.gather_wheel()
    house.gather_debs()
    house.gather("x86_64", "3.11")


def _check_out(lan: Any, machines: list[Any], key: Path, slots: int) -> None:
    """Bring the host what its owner has there: a clone, a key, the list of machines."""
    clone = lan.folder / "checkout"
    subprocess.run(["git", "clone", "-q", "--local", str(ROOT), str(clone)], check=True)
    home = machines[0].path("/root")
    shutil.copytree(clone, home / "millpond", symlinks=True)
    shutil.copytree(ROOT / ".dev" / "wheelhouse", home / "millpond" / ".dev" / "wheelhouse")
    shutil.copy(key, home / "owner")
    (home / "owner").chmod(0o600)
    lines = [
        f"root@{each.address} name={each.name} data=/mnt/data slots={slots} key=owner"
        for each in machines[1:]
    ]
    (home / "machines.txt").write_text("\n".join(lines) + "\n")


@contextmanager
def _on_network(lan: Any) -> Iterator[None]:
    """Move this thread, and all that it starts meanwhile, onto the machines' network."""
    libc = ctypes.CDLL(None, use_errno=True)
    with (
        Path("/proc/thread-self/ns/net").open() as own,
        Path(f"/run/netns/{lan.namespace}").open() as theirs,
    ):
        if libc.setns(theirs.fileno(), _NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "the network of the machines was not joined")
        try:
            yield
        finally:  # The rig ends all that is on its network.
            libc.setns(own.fileno(), _NEW_NETWORK)


def _sign_in(host: Any, folder: Path) -> Client:
    host.run(MILLPOND, "user", "add", "ana", "--admin", text=f"{_PASSWORD}\n")
    url = f"https://{host.address}:8787"
    environ = clean(folder)
    pinned = fingerprint_of((host.path(DATA) / "keys" / "authority.crt").read_text())
    with Client(url, fingerprint=pinned, environ=environ) as stranger:
        token = stranger.account.sign_in("ana", _PASSWORD).text
    client = Client(url, token, project="bench", fingerprint=pinned, environ=environ)
    client.projects.make("bench")
    return client
