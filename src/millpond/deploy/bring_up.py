"""From a bare host to a served portal with all its machines joined; safe to repeat.

``./dev cluster HOSTFILE [--dry-run] [--data FOLDER] [--address ADDRESS] [--wheelhouse FOLDER]``
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from tempfile import TemporaryDirectory

from millpond.client.client import Client
from millpond.client.config import config_path, read_config, write_config
from millpond.client.screen import harmless
from millpond.deploy.doctoring import examine
from millpond.deploy.ensure import Setup
from millpond.deploy.host import Host, Plan, find_address, is_root
from millpond.deploy.hostfile import PORT_MOST, HostLine, read_hosts
from millpond.deploy.judging import PLAIN_PATH, Wanted
from millpond.deploy.packing import version_in
from millpond.deploy.places import CURRENT_MILLPOND, HOST_FOLDER
from millpond.deploy.ssh import Login, Pins, open_remote, own_key
from millpond.deploy.wheelhouse import Wheelhouse
from millpond.ground.errors import (
    ConflictError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
)
from millpond.ground.findings import Finding
from millpond.ground.versions import code_below, digest_of, in_words
from millpond.machines.port import MachineStep
from millpond.machines.values import DATA_PORT, WORKER_PORT, Node, NodeWork, WorkLine

_AT_ONCE = 8
_UP_SECONDS = 90.0


@dataclass(frozen=True)
class Outcome:
    """How it went with one machine.

    Attributes:
        name: of the node.
        text: in words for people.
        is_good: whether it is a node that works.
    """

    name: str
    text: str
    is_good: bool


class Board:
    """What people see: a line for each thing that is done on each machine, as it happens."""

    def __init__(self) -> None:
        """Write to standard error; results go to standard output."""
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def line(self, name: str, step: str, text: str, state: str = "") -> None:
        """Write one line."""
        mark = {"begun": "..", "done": "ok", "skipped": "ok", "warning": "! ", "failed": "XX"}
        seconds = time.monotonic() - self._begun
        with self._lock:
            sys.stderr.write(
                f"{seconds:6.1f} s  {mark.get(state, '  ')}  {name:<14} {step:<11} "
                f"{harmless(text)}\n"
            )
            sys.stderr.flush()


def bring_up(given: argparse.Namespace, board: Board) -> int:
    """Do all of it; give the exit code: 0 when every machine works, 1 otherwise.

    Raises:
        MillpondError: this machine cannot be the host, or the list is not good.
    """
    lines = read_hosts(given.hostfile)
    if not is_root() and not (given.dry_run or given.doctor):
        raise NotAllowedError(
            "Setting up this machine needs root.",
            next_step=f"sudo ./dev cluster {given.hostfile} (or --dry-run, which only looks).",
        )
    if not PLAIN_PATH.fullmatch(str(given.data)):
        raise InvalidError(
            f"The data folder {given.data} is no plain path.",
            next_step="Use letters, digits and . _ @ + - only.",
            faults=[Fault("data", "is no plain path")],
        )
    plan = Plan(
        given.data,
        given.address or find_address(lines[0].address),
        given.port,
        given.scheduler_port,
        given.door_port,
        keeps_on_nodes=sum(bool(line.data) for line in lines) > 1,
    )
    wheelhouse = Wheelhouse(given.wheelhouse, lambda text: board.line("host", "packages", text))
    board.line("host", "look", f"reached by its machines at {plan.address}")
    version = version_in(wheelhouse.gather_wheel())
    warn_of_other_code(Path.cwd(), version, board)
    wheelhouse.gather_debs()
    host = Host(plan, wheelhouse, lambda step, text: board.line("host", step, text, "begun"))
    host.check()
    if given.dry_run or given.doctor:
        looks = _Looking(given.data, wheelhouse, board, is_doctor=given.doctor)
        return 0 if all([looks.look(line) for line in lines]) else 1  # noqa: C419 - at all of them.
    if not plan.keeps_on_nodes:
        text = "fewer than two lines have data=, so objects lie on this host's own disk"
        board.line("host", "data", text, "warning")
    kit = host.install()
    host.write()
    path = config_path(os.environ)  # From now on the commands of this account find the server.
    write_config(path, read_config(path).with_data_folder(plan.folder))
    is_new = host.is_new
    with host.start(kit) as client:
        board.line("host", "server", f"answers at {client.url}", "done")
        me = client.account.me().user.name  # The key file makes the first administrator.
        link = client.users.make_reset_link(me).link if is_new else ""
        if link:
            board.line("host", "you", f"are the first administrator, {me}: {link}", "done")
        outcomes = add_all(lines, client, plan.folder, board, version)
        say_end(plan, client, outcomes, me, link)
    return 0 if all(each.is_good for each in outcomes) else 1


def warn_of_other_code(checkout: Path, version: str, board: Board) -> None:
    """Say that a wheelhouse which was carried here holds other code than the folder around it."""
    package = checkout / "src" / "millpond"
    if not package.is_dir():
        return
    own = in_words(version_of("millpond"), digest_of(code_below(package)))
    if own != version:
        text = (
            f"the wheelhouse holds Millpond {version}, which is installed; this folder's code is"
            f" {own}. To have that, make the wheelhouse anew where there is Internet:"
            " ./dev wheelhouse"
        )
        board.line("host", "packages", text, "warning")


def add_all(
    lines: Sequence[HostLine], client: Client, data: Path, board: Board, version: str
) -> list[Outcome]:
    """Add every machine of a list, all at once; nodes already are brought this version."""
    found = {node.name: node for node in client.nodes.list()}

    def add(line: HostLine) -> Outcome:
        with Client(data_folder=data) as own:
            try:
                return _Adding(line, own, board, version).add(found)
            except MillpondError as fault:
                board.line(line.title, "failed", fault.message, "failed")
                return Outcome(line.title, f"{fault.message} {fault.next_step}", is_good=False)

    with ThreadPoolExecutor(min(_AT_ONCE, len(lines)), "adding") as pool:
        return list(pool.map(add, lines))


class _Adding:
    """One machine on its way to be a node."""

    def __init__(self, line: HostLine, client: Client, board: Board, version: str) -> None:
        self._line, self._client, self._board = line, client, board
        self._version = version
        self._name = line.title

    def add(self, known: dict[str, Node]) -> Outcome:
        """Add it, or look after it where it is a node already."""
        line = self._line
        if line.name in known:
            return self._look_after(line.name)
        try:
            started = self._client.nodes.add(
                line.address,
                user=line.user,
                port=line.port,
                key_file=str(line.key.resolve()) if line.key else "",
                data_disk=line.data,
                name=line.name,
                slots=line.slots,
                labels=line.labels,
            )
        except ConflictError as fault:
            name = str(fault.facts.get("node", ""))
            if name:
                return self._look_after(name)
            raise
        self._name = started.node
        return self._follow(started, "joined, and takes tasks")

    def _look_after(self, name: str) -> Outcome:
        """Bring a node this version, if it has another; wait for one that was just started."""
        self._name = name
        end = time.monotonic() + _UP_SECONDS
        while True:
            node = self._client.nodes.get(name).node
            # What the host has installed tells its code, unless it is older than that.
            if node.version != self._version and node.source:
                return self._follow(self._client.nodes.upgrade(name), "runs this version now")
            if node.state in ("up", "draining"):
                self._board.line(name, "node", "is a node already", "skipped")
                return Outcome(name, f"is {node.state} already", is_good=True)
            if time.monotonic() > end:
                text = f"is {node.state}: millpond node doctor {name} says more"
                self._board.line(name, "node", text, "failed")
                return Outcome(name, text, is_good=False)
            time.sleep(1)

    def _follow(self, started: NodeWork, good: str) -> Outcome:
        ended = self._client.nodes.wait(started, self._tell, time.sleep)
        if ended.state == "done":
            return Outcome(self._name, good, is_good=True)
        return Outcome(self._name, ended.reason or ended.state, is_good=False)

    def _tell(self, line: WorkLine) -> None:
        self._board.line(self._name, line.name, line.text, line.state)


class _Looking:
    """Look at machines and change nothing."""

    def __init__(
        self, data: Path, wheelhouse: Wheelhouse, board: Board, *, is_doctor: bool
    ) -> None:
        self._ssh, self._wheelhouse, self._board = data / "ssh", wheelhouse, board
        self._is_doctor = is_doctor

    def look(self, line: HostLine) -> bool:
        """Say what would be done with a machine, or what is wrong; tell whether all is well."""

        def tell(step: MachineStep) -> None:
            self._board.line(line.title, step.name, step.text, step.state)

        ports = ((WORKER_PORT, "worker"), *(((DATA_PORT, "data"),) if line.data else ()))
        wanted = Wanted(line.name, version_of("millpond"), data_disk=line.data, ports=ports)
        own = self._ssh if self._ssh.is_dir() else None
        keys = (line.key,) if line.key else (own_key(own),) if own else ()
        login = Login(line.address, line.user, line.port, keys)
        try:
            with (
                TemporaryDirectory(prefix="mp-pins-") as nowhere,
                open_remote(login, Pins(own or Path(nowhere))) as remote,
            ):
                tell(MachineStep("reach", "done", f"Its host key is {remote.host_key}."))
                if self._is_doctor:
                    return self._examine(line.title, examine(remote, wanted))
                Setup(remote, self._wheelhouse, wanted, line.slots).plan(tell)
        except MillpondError as fault:
            tell(MachineStep("failed", "failed", f"{fault.message} {fault.next_step}"))
            return False
        return True

    def _examine(self, title: str, found: Sequence[Finding]) -> bool:
        states = {"ok": "done", "warning": "warning", "fault": "failed"}
        for each in found:
            text = f"{each.meaning} {each.next_step}".strip()
            self._board.line(title, each.name, text, states[each.state])
        return all(each.state != "fault" for each in found)


def say_end(plan: Plan, client: Client, outcomes: Sequence[Outcome], admin: str, link: str) -> None:
    """Write what there is now, what to open, and what to do next."""
    nodes = {node.name: node for node in client.nodes.list()}
    say: Callable[[str], None] = lambda text: print(text)  # noqa: E731, T201, PLW0108 - a program.
    say("")
    for each in outcomes:
        node = nodes.get(each.name)
        shown = f"{node.state}, {node.slots:g} slots" if node else "not a node"
        say(f"  {each.name:<16} {shown:<22} {each.text}")
    good = sum(each.is_good for each in outcomes)
    say(
        f"\n{good} of {len(outcomes)} machines work. The portal: https://{plan.address}:{plan.port}"
    )
    fingerprint = client.system.authority().fingerprint
    say(f"Its authority's fingerprint, to compare in a browser and to pin: {fingerprint}")
    if link:
        say(f"You are the first administrator, {admin}. Choose your password, once: {link}")
    say(
        "\nNext:\n"
        f"  {CURRENT_MILLPOND} node list               the machines, from this host\n"
        f"  {CURRENT_MILLPOND} node add USER@ADDRESS   one more machine\n"
        f"  millpond login https://{plan.address}:{plan.port} --fingerprint {fingerprint}\n"
        "                                                  from anybody's own machine\n"
        "Do all of this again at any time: what is there stays, what is missing is done."
    )


def _port(text: str) -> int:
    if not (text.isdigit() and 0 < int(text) <= PORT_MOST):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to {PORT_MOST}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring a cluster up; give the exit code."""
    parser = argparse.ArgumentParser(
        prog="./dev cluster",
        description="Make this machine the host, and a list of machines nodes.",
    )
    parser.add_argument("hostfile", type=Path, help="one machine a line: USER@ADDRESS data=/FOLDER")
    parser.add_argument("--dry-run", action="store_true", help="look and tell; change nothing")
    parser.add_argument(
        "--doctor", action="store_true", help="say what is wrong with each machine; change nothing"
    )
    parser.add_argument(
        "--data", type=Path, default=Path(HOST_FOLDER), metavar="FOLDER",
        help=f"folder of all data: {HOST_FOLDER}",
    )  # fmt: skip
    parser.add_argument("--address", default="", help="by which machines and people reach this one")
    for name, port, what in (
        ("port", 8787, "of the portal"),
        ("scheduler-port", 8786, "by which tasks are handed out"),
        ("door-port", 8785, "by which machines come in"),
    ):
        parser.add_argument(
            f"--{name}", type=_port, default=port, metavar="PORT", help=f"{what}: {port}"
        )
    parser.add_argument(
        "--wheelhouse", type=Path, default=Path(".dev/wheelhouse"), metavar="FOLDER",
        help="folder of all that is installed from",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    given.data = given.data.expanduser().absolute()
    try:
        return bring_up(given, Board())
    except MillpondError as fault:
        print(f"{fault.message}\n{fault.next_step}", file=sys.stderr)  # noqa: T201 - a program.
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Do the same again: what is done stays done.", file=sys.stderr)  # noqa: T201 - the same.
        return 130


if __name__ == "__main__":
    sys.exit(main())
