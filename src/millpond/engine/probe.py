"""Find out what this machine can do for the sandbox, by trying it; each no with how to mend it."""

import os
import select
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from millpond.engine.cgroups import Groups, find_groups
from millpond.engine.rules import UIDS
from millpond.engine.sandbox import bubblewrap_version, choose_place
from millpond.engine.starting import Launch, Starter, make_words

_VERSION = (0, 8)
_PATIENCE_SECONDS = 10
_SAID = b"millpond can isolate"


@dataclass(frozen=True)
class Ability:
    """One thing a machine can or can't do.

    Attributes:
        name: for people.
        works: whether it was seen to work.
        reason: what was seen.
        next_step: how to mend it; empty when it works.
    """

    name: str
    works: bool
    reason: str
    next_step: str = ""


@dataclass(frozen=True)
class Machine:
    """What a machine can do, and the tools that follow from it.

    Attributes:
        sandbox: programs can be isolated with bubblewrap.
        limits: memory, processes and CPU can be limited per task with control groups.
        users: each user's programs get a uid of their own.
        groups: where control groups are made; None when they can't be.
        is_root: whether Millpond runs as root.
        can_mount: whether it may lay out mount namespaces; always False unless root.
    """

    sandbox: Ability
    limits: Ability
    users: Ability
    groups: Groups | None
    is_root: bool
    can_mount: bool

    @property
    def abilities(self) -> tuple[Ability, ...]:
        """All of them, in the order a person reads them."""
        return (self.sandbox, self.limits, self.users)

    @property
    def reason(self) -> str:
        """What can't be held to, in one line; empty when all is well."""
        return "; ".join(each.reason for each in self.abilities[:2] if not each.works)


def probe_machine(starter: Starter | None = None) -> Machine:
    """Try the sandbox and the control groups. Cost: about 30 ms."""
    is_root = os.geteuid() == 0
    own = starter or Starter()
    try:
        can_mount = is_root and _try_mounts(own)
        sandbox = _try_sandbox(own, is_root=is_root, can_mount=can_mount)
    finally:
        if starter is None:
            own.close()
    groups, reason = find_groups()
    limits = Ability(
        "limits per task",
        groups is not None,
        f"control groups version {groups.version}" if groups else reason,
        ""
        if groups
        else "Run Millpond as a systemd service with Delegate=yes, or as root; until then memory"
        " and CPU time are limited per process.",
    )
    users = Ability(
        "a uid per user",
        is_root,
        f"uids {UIDS[0]} to {UIDS[1]}" if is_root else "all programs run as Millpond's own user",
        "" if is_root else "Needs Millpond to run as root; the sandbox isolates without it.",
    )
    return Machine(sandbox, limits, users, groups, is_root, can_mount)


def _try_mounts(starter: Starter) -> bool:
    command = ["/bin/sh", "-c", f"echo {_SAID.decode()}"]
    return _SAID in _run(starter, Launch(command, {}, place=choose_place(), uid=UIDS[0]))


def _try_sandbox(starter: Starter, *, is_root: bool, can_mount: bool) -> Ability:
    name = "isolation of programs"
    path = shutil.which("bwrap")
    if path is None:
        step = "Install the package bubblewrap (0.8 or newer) with the system's package tool."
        return Ability(name, works=False, reason="bubblewrap is not installed", next_step=step)
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = bubblewrap_version(said.stdout)
    if version < _VERSION:
        return Ability(
            name,
            works=False,
            reason=f"{said.stdout.strip() or 'bubblewrap'} is too old",
            next_step="Install bubblewrap 0.8 or newer: older ones can't forbid user namespaces.",
        )
    launch = Launch(
        command=[
            path,
            *("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"),
            *("--as-pid-1", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"),
            *("--", "/bin/sh", "-c", f"echo {_SAID.decode()}"),
        ],
        environment={"PATH": "/usr/bin:/bin"},
        uid=UIDS[0] if is_root else None,
        place=choose_place() if can_mount else "",
    )
    words = _run(starter, launch)
    if _SAID in words:
        return Ability(name, works=True, reason=said.stdout.strip())
    reason = words.decode(errors="replace").strip()[-300:] or "it said nothing"
    return Ability(
        name, works=False, reason=f"bubblewrap fails: {reason}", next_step=explain_failure()
    )


def _run(starter: Starter, launch: Launch) -> bytes:
    ours, theirs = socket.socketpair()
    read, write = make_words()
    with ours, theirs:
        try:
            pidfd = starter.start(launch, theirs.fileno(), write)
        finally:
            os.close(write)
        os.close(pidfd)
        poll, words = select.poll(), b""
        poll.register(read, select.POLLIN)
        while poll.poll(_PATIENCE_SECONDS * 1000):
            data = os.read(read, 65536)
            words += data
            if not data:
                break
        os.close(read)
    return words


def explain_failure(root: Path = Path("/proc/sys")) -> str:
    """Say how to let bubblewrap make user namespaces, from the kernel's settings."""
    if _setting(root / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor forbids user namespaces here (Ubuntu 23.10 and newer). Give bubblewrap a"
            " profile: write `abi <abi/4.0>, profile bwrap /usr/bin/bwrap flags=(unconfined)"
            " { userns, }` to /etc/apparmor.d/bwrap and run `systemctl reload apparmor`."
        )
    if _setting(root / "kernel/unprivileged_userns_clone") == "0":
        return "Run `sysctl -w kernel.unprivileged_userns_clone=1` and keep it in /etc/sysctl.d."
    if _setting(root / "user/max_user_namespaces") == "0":
        return "Run `sysctl -w user.max_user_namespaces=15000` and keep it in /etc/sysctl.d."
    return (
        "In a container, start it with --security-opt seccomp=unconfined --security-opt"
        " systempaths=unconfined --user 1000; elsewhere ask for user namespaces to be allowed."
    )


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
