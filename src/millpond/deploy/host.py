"""Make this machine the host: Millpond installed, its settings written, its services started."""

import os
import shlex
import shutil
import socket
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millpond.client.client import Client
from millpond.client.local import DATA_FILE, find_server
from millpond.deploy import judging, mending, units
from millpond.deploy.background import start_loop, tell_start
from millpond.deploy.facts import Facts, look
from millpond.deploy.places import (
    COMMAND,
    CURRENT_MILLPOND,
    PREFIX,
    SCHEDULER_UNIT,
    SERVER_UNIT,
    UNIT_FOLDER,
)
from millpond.deploy.target import Here
from millpond.deploy.wheelhouse import Kit, Wheelhouse
from millpond.ground.errors import BusyError, ConflictError, Fault, InvalidError, MillpondError
from millpond.machines.port import JoinTicket

_READY_SECONDS = 120.0
_LOOK_SECONDS = 0.3


@dataclass(frozen=True)
class Plan:
    """What this machine shall become.

    Attributes:
        folder: of all data.
        address: by which nodes and people reach it.
        port: of the portal.
        scheduler_port: of the scheduler.
        door_port: of the door.
        keeps_on_nodes: whether objects lie on the nodes' disks.
    """

    folder: Path
    address: str
    port: int = 8787
    scheduler_port: int = 8786
    door_port: int = 8785
    keeps_on_nodes: bool = True


def find_address(other: str) -> str:
    """Give the address by which another machine reaches this one.

    Raises:
        InvalidError: there is no way to it.
    """
    try:
        found = socket.getaddrinfo(other, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])  # Asks for the way there; no packet goes out.
            return str(probe.getsockname()[0])
    except OSError as fault:
        raise InvalidError(
            f"This host knows no way to {other}: {fault.strerror or fault}.",
            next_step="Look at the spelling and at this host's network; or say which of its"
            " addresses the machines reach: --address ADDRESS.",
        ) from fault


def settings_text(plan: Plan) -> str:
    """Give the settings of a host with nodes."""
    is_six = ":" in plan.address
    shown = f"[{plan.address}]" if is_six else plan.address
    everywhere = "::" if is_six else "0.0.0.0"  # noqa: S104 - a server for the network, by TLS.
    return f"""# Written by ./dev cluster; it is yours from now on, and never written again.
[server]
host = "{everywhere}"
port = {plan.port}
url = "https://{shown}:{plan.port}"

[objects]
kind = "{"nodes" if plan.keeps_on_nodes else "folder"}"

[engine]
kind = "dask"

[cluster]
address = "{plan.address}"
scheduler_port = {plan.scheduler_port}
door_port = {plan.door_port}
"""


class Host:
    """This machine on its way to be the host; each step looks first and can be repeated."""

    def __init__(self, plan: Plan, wheelhouse: Wheelhouse, say: Callable[[str, str], None]) -> None:
        """Keep what is to be done.

        Args:
            plan: what it shall become.
            wheelhouse: what it and its nodes are installed from.
            say: takes a step's name and a sentence.
        """
        self.plan, self._wheelhouse, self._say = plan, wheelhouse, say
        self._here = Here()

    @property
    def is_new(self) -> bool:
        """Whether this machine was never the host of this data folder before."""
        return not (self.plan.folder / "running").exists()

    def check(self) -> Facts:
        """Look whether this machine can be a host; nothing is changed.

        Raises:
            InvalidError: it cannot; every reason.
            ConflictError: another installation runs here, or other settings stand in the way.
        """
        facts = look(self._here)
        wanted = judging.Wanted("host", "", has_debs=bool(self._debs(facts)))
        judges = (judging.judge_system, judging.judge_room, judging.judge_python,
                  judging.judge_sandbox)  # fmt: skip
        refused = [v for v in (judge(facts, wanted) for judge in judges) if v.state == "refused"]
        if refused:
            raise InvalidError(
                "This machine cannot be the host: " + "; ".join(v.text for v in refused) + ".",
                next_step=" ".join(v.next_step for v in refused),
                faults=[Fault("host", verdict.text) for verdict in refused],
            )
        self._check_ports(facts)
        self._check_settings()
        return facts

    def _check_ports(self, facts: Facts) -> None:
        if find_server(self.plan.folder) is not None:
            return
        ports = {self.plan.port: "portal", self.plan.scheduler_port: "scheduler",
                 self.plan.door_port: "door"}  # fmt: skip
        loops = [self.plan.folder / f"{name}.pid" for name in ("server", "scheduler")]
        taken = [f"{port} ({what})" for port, what in ports.items() if port in facts.ports]
        is_ours = _runs_unit(self._here) if facts.has_systemd else any(map(_is_alive, loops))
        if taken and not is_ours:
            raise ConflictError(
                f"Something listens here already on port {', '.join(taken)}.",
                next_step="Another Millpond on this host? Use that one (millpond doctor finds it),"
                " or stop it; ss -ltnp shows which program it is. Other ports: --port,"
                " --scheduler-port, --door-port.",
            )

    def _check_settings(self) -> None:
        """Settings that are there already are somebody's own: they must fit, or are told of."""
        path = self.plan.folder / "settings.toml"
        if not path.exists():
            return
        try:
            held: dict[str, Any] = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as fault:
            raise ConflictError(
                f"{path} cannot be read: {fault}.", next_step="Mend it, then do the same again."
            ) from fault
        lacking = list(_lacking(held))
        if lacking:
            raise ConflictError(
                f"{path} is there already and does not fit a host with nodes: it needs "
                + ", ".join(lacking)
                + ".",
                next_step="Write that into it yourself, then do the same again; or give another"
                " folder: --data FOLDER.",
            )

    def _debs(self, facts: Facts) -> dict[str, Path]:
        return self._wheelhouse.find_debs(facts.packages)

    def install(self) -> Kit:
        """Install what is missing: the sandbox, and this very Millpond below /opt."""
        facts = look(self._here)
        wanted = judging.Wanted("host", "", has_debs=bool(self._debs(facts)))
        verdict = judging.judge_sandbox(facts, wanted)
        if verdict.state == "due":
            self._say("sandbox", verdict.text)
            work = mending.Work(self._here, facts, wanted, self._wheelhouse, None, 0, _no_ticket)
            mending.install_sandbox(work)
        found = judging.best_python(facts)
        assert found is not None  # noqa: S101 - this very program runs by one.
        python = ".".join(found[1].split(".")[:2])
        self._wheelhouse.gather(facts.machine, python)
        kit = self._wheelhouse.kit(facts.machine, python)
        if kit.name not in facts.installed:
            self._say("millpond", f"Millpond {kit.version} into {PREFIX}/{kit.name}")
            mending.install_kit(self._here, kit, found[0])
        if facts.current != kit.name:
            mending.use_kit(self._here, kit.name)
        if not os.path.lexists(COMMAND):
            self._say("command", f"{COMMAND}, so that every shell knows it")
            Path(COMMAND).symlink_to(CURRENT_MILLPOND)
        return kit

    def write(self) -> None:
        """Make the data folder, its settings, and the wheelhouse that nodes are added from."""
        folder = self.plan.folder
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)  # Sandboxes walk through it.
        (folder / "cluster").mkdir(mode=0o700, exist_ok=True)
        path = folder / "settings.toml"
        if not path.exists():
            making = path.with_suffix(".new")
            making.write_text(settings_text(self.plan))
            making.chmod(0o600)
            making.replace(path)
            self._say("settings", f"written to {path}")
        for each in self._elsewhere():
            Path(each).mkdir(mode=0o711, parents=True, exist_ok=True)
        # By it the commands of this installation find the data, whoever is root and however.
        told = Path(PREFIX) / DATA_FILE
        told.write_text(f"{folder}\n")
        told.chmod(0o644)
        kept = folder / "wheelhouse"
        if self._wheelhouse.folder.resolve() != kept.resolve():
            shutil.copytree(self._wheelhouse.folder, kept, dirs_exist_ok=True)

    def start(self, kit: Kit) -> Client:
        """Start the server and the scheduler, or leave them when they run this very version.

        Returns:
            A client of the server, signed in as an administrator by its key file.

        Raises:
            BusyError: the server does not answer in time; its last words.
        """
        folder, running = self.plan.folder, self.plan.folder / "running"
        is_same = running.exists() and running.read_text().strip() == kit.name
        is_same = is_same and (not _has_systemd() or self._is_unit_same())
        if not (is_same and find_server(folder) is not None):
            self._say("server", f"starting Millpond {kit.version}")
            self._start_server()
        client = self._wait_ready()
        if not is_same or not self._scheduler_runs():
            self._say("scheduler", "starting it")
            self._start_scheduler()
        running.write_text(kit.name + "\n")
        return client

    def _elsewhere(self) -> tuple[str, ...]:
        return units.folders_elsewhere(
            tomllib.loads((self.plan.folder / "settings.toml").read_text())
        )

    def _server_unit(self) -> str:
        return units.server_unit(str(self.plan.folder), self._elsewhere())

    def _is_unit_same(self) -> bool:
        path = Path(UNIT_FOLDER) / SERVER_UNIT
        return path.exists() and path.read_text() == self._server_unit()

    def _start_server(self) -> None:
        folder = str(self.plan.folder)
        if _has_systemd():
            mending.start_unit(self._here, SERVER_UNIT, self._server_unit())
        else:
            words = f"-m millpond.deploy.loop -m millpond.main --data {shlex.quote(folder)}"
            self._start_loop(folder, words, "server")

    def _start_scheduler(self) -> None:
        folder, port = str(self.plan.folder), self.plan.scheduler_port
        if _has_systemd():
            text = units.scheduler_unit(folder, port)
            mending.start_unit(self._here, SCHEDULER_UNIT, text)
        else:
            words = f"-m millpond.deploy.loop {units.scheduler_words(folder, port)}"
            self._start_loop(str(folder), words, "scheduler")

    def _start_loop(self, folder: str, words: str, name: str) -> None:
        what = f"it runs as a loop in the background, {tell_start(look(self._here))}"
        self._say(name, what)
        start_loop(self._here, folder, words, name, be_steady=mending.be_steady)

    def _scheduler_runs(self) -> bool:
        with (
            suppress(OSError),
            socket.create_connection((self.plan.address, self.plan.scheduler_port), timeout=5),
        ):
            return True
        return False

    def _wait_ready(self) -> Client:
        end = time.monotonic() + _READY_SECONDS
        said = ""
        while time.monotonic() < end:
            if find_server(self.plan.folder) is not None:
                client = Client(data_folder=self.plan.folder)
                try:
                    client.system.health()
                except MillpondError as fault:
                    client.close()
                    said = fault.message
                else:
                    return client
            time.sleep(_LOOK_SECONDS)
        log = self._here.run(
            f"tail -n 8 {self.plan.folder}/server.log 2>/dev/null"
            f" || journalctl -u {SERVER_UNIT} -n 8 -o cat --no-pager"
        )
        raise BusyError(
            f"The server does not answer after {_READY_SECONDS:.0f} s. {said}\n{log.last_words}",
            next_step="Mend what it says, then do the same again: what is done stays done.",
        )


def _has_systemd() -> bool:
    return Path("/run/systemd/system").is_dir()


def _lacking(held: dict[str, Any]) -> Iterator[str]:
    if held.get("engine", {}).get("kind") != "dask":
        yield 'engine.kind = "dask"'
    if held.get("server", {}).get("host", "127.0.0.1") in ("127.0.0.1", "localhost", "::1"):
        yield 'server.host = "0.0.0.0"'
    if not held.get("cluster", {}).get("address"):
        yield "cluster.address"


def _runs_unit(here: Here) -> bool:
    return not here.run(f"systemctl is-active --quiet {SERVER_UNIT}").code


def _is_alive(path: Path) -> bool:
    try:
        pid = int(path.read_text())
        return b"millpond" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return False


def _no_ticket() -> JoinTicket:
    raise AssertionError  # The host itself joins nothing.


def is_root() -> bool:
    """Tell whether this program may set up the machine."""
    return os.geteuid() == 0
