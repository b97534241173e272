"""Judge what a machine lacks to be a node: each step in turn, from what was seen alone."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from millpond.deploy.background import tell_start
from millpond.deploy.facts import Facts, numbers
from millpond.deploy.places import NODE_FOLDER, PREFIX
from millpond.deploy.units import digest_of_unit, worker_unit
from millpond.ground.units import size_text

State = Literal["fine", "due", "warning", "refused"]

CLOCK_SECONDS = 60
PYTHON_LEAST, PYTHON_MOST = (3, 11), (3, 13)
BUBBLEWRAP_LEAST = (0, 8)
PREFIX_BYTES = 1_500_000_000
NODE_BYTES = 1_000_000_000
DISK_BYTES = 200_000_000
MEMORY_BYTES = 900_000_000
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._@+/-]*")
_PYTHONS = ("python3.13", "python3.12", "python3.11", "python3")


@dataclass(frozen=True)
class Verdict:
    """What a step finds.

    Attributes:
        state: ``fine`` already, ``due`` to be done, a ``warning``, or ``refused``.
        text: what is so, or what will be done.
        next_step: what somebody has to do; empty when nothing.
    """

    state: State
    text: str
    next_step: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a machine shall become.

    Attributes:
        name: of the node.
        version: of Millpond.
        kit: name of the installation; empty while its Python is not known.
        kit_bytes: how large it is.
        installation: fingerprint of the authority; empty when it is not known.
        data_disk: folder of objects; empty for none.
        ports: that the node will listen on, with what each is for.
        has_debs: whether the host can give Python and bubblewrap itself.
    """

    name: str
    version: str
    kit: str = ""
    kit_bytes: int = 0
    installation: str = ""
    data_disk: str = ""
    ports: tuple[tuple[int, str], ...] = ()
    has_debs: bool = False


Judge = Callable[[Facts, Wanted], Verdict]


def judge_system(facts: Facts, wanted: Wanted) -> Verdict:
    """Look at what kind of machine it is."""
    del wanted
    title = f"{facts.system_title} on {facts.machine}"
    if facts.machine not in ("x86_64", "aarch64"):
        return Verdict(
            "refused", f"{title}: there are no packages for it",
            "Use a machine of kind x86_64 or aarch64.",
        )  # fmt: skip
    if not {"debian", "ubuntu"} & set(facts.systems):
        if best_python(facts) and is_new_bubblewrap(facts.bubblewrap):
            return Verdict("warning", f"{title} is not a Debian; it has what is needed")
        return Verdict(
            "refused", f"{title} is no Debian or Ubuntu",
            "Install Python 3.11 or newer and bubblewrap 0.8 or newer there, then try again.",
        )  # fmt: skip
    if 0 < facts.memory_bytes < MEMORY_BYTES:
        return Verdict(
            "refused", f"{title} has {size_text(facts.memory_bytes)} of memory",
            "Use a machine with at least 1 GB.",
        )  # fmt: skip
    return Verdict("fine", f"{title}, {facts.cores} cores, {size_text(facts.memory_bytes)}")


def judge_clock(facts: Facts, wanted: Wanted) -> Verdict:
    """Compare its clock with the host's."""
    del wanted
    off = facts.clock_off_seconds
    if abs(off) <= CLOCK_SECONDS:
        return Verdict("fine", f"within {max(1, round(abs(off)))} s of the host's")
    ahead = "ahead of" if off > 0 else "behind"
    return Verdict(
        "refused",
        f"its clock is {_duration(abs(off))} {ahead} the host's",
        "Set it there: timedatectl set-ntp true, or date -u -s 'YYYY-MM-DD HH:MM:SS'.",
    )


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"  # noqa: PLR2004 - an hour.


def judge_room(facts: Facts, wanted: Wanted) -> Verdict:
    """Look at what is free on its disks."""
    needed = {"node": (NODE_FOLDER, NODE_BYTES)}
    if wanted.kit not in facts.installed or not wanted.kit:
        needed["prefix"] = (PREFIX, PREFIX_BYTES)
    if wanted.data_disk:
        needed["disk"] = (wanted.data_disk, DISK_BYTES)
    short = [
        f"{place} has {size_text(facts.free_bytes.get(name, 0))} free, {size_text(least)} needed"
        for name, (place, least) in needed.items()
        if facts.free_bytes.get(name, 0) < least
    ]
    if short:
        return Verdict("refused", "; ".join(short), "Make room there, or take a larger disk.")
    shown, disk = (size_text(facts.free_bytes.get(name, 0)) for name in ("node", "disk"))
    more = f", {disk} for data" if wanted.data_disk else ""
    return Verdict("fine", f"{shown} free{more}")


def judge_owner(facts: Facts, wanted: Wanted) -> Verdict:
    """Find out whether it belongs to somebody else."""
    theirs, name = facts.config.get("installation", ""), facts.config.get("name", "")
    if not facts.config:
        return Verdict("fine", "belongs to no installation yet")
    leave = f"systemctl disable --now millpond-worker; rm -r {NODE_FOLDER}"
    if theirs == "damaged":
        return Verdict("refused", f"{NODE_FOLDER}/node.json is damaged", f"There: {leave}")
    if wanted.installation and theirs != wanted.installation:
        url = facts.config.get("url", "")
        return Verdict(
            "refused", f"it is node {name} of another installation, {url}",
            f"Remove it there (millpond node remove {name}), or by hand on the machine: {leave}",
        )  # fmt: skip
    if wanted.name and name != wanted.name:
        return Verdict(
            "refused", f"it is node {name} of this installation already",
            f"Add it as {name}, or remove that node first: millpond node remove {name}",
        )  # fmt: skip
    return Verdict("fine", f"is node {name}")


def judge_ports(facts: Facts, wanted: Wanted) -> Verdict:
    """Look whether something else listens where the node will."""
    taken = [f"{port} ({what})" for port, what in wanted.ports if port in facts.ports]
    if taken and not facts.is_running:
        return Verdict(
            "refused", f"port {', '.join(taken)} is taken by another program",
            "Stop that program there (ss -ltnp shows it), then try again.",
        )  # fmt: skip
    return Verdict(
        "fine", f"{' and '.join(str(port) for port, _ in wanted.ports)} are free or ours"
    )


def judge_python(facts: Facts, wanted: Wanted) -> Verdict:
    """Look for a Python that is new enough, here or in its own packages."""
    if found := best_python(facts):
        return Verdict("fine", f"{found[0]} {found[1]}")
    has = f"has Python {facts.pythons[0][1]}" if facts.pythons else "has no Python"
    if offered := offered_python(facts):
        return Verdict(
            "due", f"{has}; {offered} ({facts.candidates[offered]}) from its own packages"
        )
    if wanted.has_debs:
        return Verdict("due", f"{has}; python3 from the host's wheelhouse")
    if facts.has_apt and not facts.candidates:
        return Verdict("due", f"{has}; python3 from its own packages, whose lists are fetched")
    theirs = facts.candidates.get("python3")
    offers = f", and its packages offer {theirs}" if theirs else ""
    return Verdict(
        "refused", f"{has}{offers}; 3.11 or newer is needed",
        "Use Debian 12, Ubuntu 24.04 or newer, or install Python 3.11, 3.12 or 3.13 there.",
    )  # fmt: skip


def best_python(facts: Facts) -> tuple[str, str] | None:
    """Give path and version of the newest Python that will do."""
    return next(
        (
            each
            for each in facts.pythons
            if PYTHON_LEAST <= numbers(each[1])[:2] <= PYTHON_MOST and each[0].startswith("/")
        ),
        None,
    )


def offered_python(facts: Facts) -> str:
    """Give the package of the newest Python that its own lists offer and that will do."""
    fitting = [
        name
        for name in _PYTHONS
        if PYTHON_LEAST <= numbers(facts.candidates.get(name, ""))[:2] <= PYTHON_MOST
    ]
    return "python3" if "python3" in fitting else (fitting or [""])[0]


def judge_sandbox(facts: Facts, wanted: Wanted) -> Verdict:
    """Look for bubblewrap, without which no task is isolated."""
    if is_new_bubblewrap(facts.bubblewrap):
        return Verdict("fine", f"bubblewrap {facts.bubblewrap}")
    has = f"bubblewrap {facts.bubblewrap} is too old" if facts.bubblewrap else "no bubblewrap"
    offered = facts.candidates.get("bubblewrap", "")
    if is_new_bubblewrap(offered):
        return Verdict("due", f"{has}; {offered} from its own packages")
    if wanted.has_debs:
        return Verdict("due", f"{has}; from the host's wheelhouse")
    if facts.has_apt and not facts.candidates:
        return Verdict("due", f"{has}; from its own packages, whose lists are fetched")
    return Verdict(
        "refused", f"{has}{f', and its packages offer {offered}' if offered else ''}",
        "Use Debian 12, Ubuntu 24.04 or newer, or install bubblewrap 0.8 or newer there.",
    )  # fmt: skip


def is_new_bubblewrap(version: str) -> bool:
    """Tell whether a version of bubblewrap can forbid what the sandbox forbids."""
    return numbers(version)[:2] >= BUBBLEWRAP_LEAST


def judge_millpond(facts: Facts, wanted: Wanted) -> Verdict:
    """Look whether this very Millpond is installed."""
    if wanted.kit and wanted.kit in facts.installed:
        return Verdict("fine", f"{PREFIX}/{wanted.kit}")
    size = f", {size_text(wanted.kit_bytes)}" if wanted.kit_bytes else ""
    return Verdict("due", f"Millpond {wanted.version} into {PREFIX}/{wanted.kit}{size}")


def judge_disk(facts: Facts, wanted: Wanted) -> Verdict:
    """Look at the folder of its objects."""
    disk = wanted.data_disk
    if not disk:
        return Verdict("fine", "keeps no data")
    if not PLAIN_PATH.fullmatch(disk) or ".." in disk or disk == "/":
        return Verdict(
            "refused", f"the data disk {disk!r} is no plain path",
            "Mount it where the path has letters, digits and . _ @ + - only.",
        )  # fmt: skip
    if facts.disk_kind and facts.disk_kind != "directory":
        return Verdict(
            "refused", f"{disk} is no folder but a {facts.disk_kind}",
            "Give the folder where the disk is mounted, not the device.",
        )  # fmt: skip
    if not facts.disk_kind:
        return Verdict("due", f"make the folder {disk}")
    if facts.is_disk_shared:
        return Verdict("warning", f"{disk} lies on the system's disk, not on one of its own")
    return Verdict("fine", disk)


def judge_membership(facts: Facts, wanted: Wanted) -> Verdict:
    """Look whether it has joined."""
    if facts.config:
        return Verdict("fine", f"joined as {facts.config.get('name')}")
    return Verdict("due", f"join as {wanted.name}, with a token that is good once")


def judge_service(facts: Facts, wanted: Wanted) -> Verdict:
    """Look whether the service runs, and runs this Millpond."""
    if not facts.has_systemd:
        how = f"as a loop in the background, since systemd does not run there, {tell_start(facts)}"
        lacks = not facts.is_running or (facts.has_cron and not facts.is_in_cron)
    else:
        how = "as the service millpond-worker"
        is_same = facts.unit_digest == digest_of_unit(worker_unit(wanted.data_disk))
        lacks = not (facts.is_running and is_same)
    if lacks:
        return Verdict("due", f"start it {how}")
    if facts.running != wanted.kit or facts.current != wanted.kit:
        return Verdict("due", f"start it again with Millpond {wanted.version}")
    return Verdict("fine", f"runs {how}")


STEPS: Sequence[tuple[str, Judge]] = (
    ("system", judge_system),
    ("clock", judge_clock),
    ("room", judge_room),
    ("owner", judge_owner),
    ("ports", judge_ports),
    ("disk", judge_disk),
    ("python", judge_python),
    ("sandbox", judge_sandbox),
    ("millpond", judge_millpond),
    ("membership", judge_membership),
    ("service", judge_service),
)
"""All steps in their order. Those that can be due are mended by ``mending``."""


def plan(facts: Facts, wanted: Wanted) -> list[tuple[str, Verdict]]:
    """Judge every step."""
    return [(name, judge(facts, wanted)) for name, judge in STEPS]
