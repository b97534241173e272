"""What a machine is like before anything is done to it, read by one script of the plain shell."""

import json
import re
import shlex
import time
from dataclasses import dataclass, field
from typing import Any

from millpond.deploy.places import (
    IS_CRON_THERE,
    NODE_CRON_FILE,
    NODE_FOLDER,
    PREFIX,
    UNIT_FOLDER,
    WORKER_UNIT,
)
from millpond.deploy.target import Target
from millpond.ground.errors import ConflictError

_LOOK = r"""
say() { printf '%s=%s\n' "$1" "$2"; }
say now "$(date +%s)"
say machine "$(uname -m)"
if [ -r /etc/os-release ]; then (. /etc/os-release
    say system "${ID:-} ${ID_LIKE:-}"; say system_title "${PRETTY_NAME:-${ID:-}}"
    say release "${VERSION_CODENAME:-}"); fi
command -v dpkg >/dev/null && say architecture "$(dpkg --print-architecture)"
wanted="python3.13 python3.12 python3.11 python3"
version='import sys; print(sys.executable, "%d.%d.%d" % sys.version_info[:3])'
for each in $wanted; do
    if path=$(command -v $each); then say python "$("$path" -c "$version" 2>/dev/null)"; fi
done
if command -v apt-get >/dev/null; then
    say apt yes
    LC_ALL=C apt-cache policy $wanted bubblewrap 2>/dev/null | while read -r first second; do
        case $first in
            Candidate:) say "candidate_$of" "$second" ;;
            *:) [ -n "$second" ] || of=${first%:} ;;
        esac
    done
fi
command -v bwrap >/dev/null && say bubblewrap "$(bwrap --version)"
[ -d /run/systemd/system ] && command -v systemctl >/dev/null && say systemd yes
near() { at=$1; while [ ! -d "$at" ]; do at=$(dirname "$at"); done; echo "$at"; }
free() { df -Pk "$(near "$1")" | { read -r _; read -r _ _ _ left _; echo "$left"; }; }
say free_prefix "$(free "$prefix")"; say free_node "$(free "$node")"
if [ -n "$disk" ]; then
    say free_disk "$(free "$disk")"
    [ ! -e "$disk" ] || say disk_kind "$(stat -c %F "$disk")"
    [ "$(stat -c %d "$(near "$disk")")" != "$(stat -c %d /)" ] || say disk_shared yes
fi
for at in "$prefix"/*/.complete; do
    [ ! -e "$at" ] || say installed "$(basename "$(dirname "$at")")"
done
[ ! -L "$prefix/current" ] || say current "$(basename "$(readlink "$prefix/current")")"
[ ! -r "$node/node.json" ] || say config "$(tr -d '\n' <"$node/node.json")"
if @CRON@; then say cron yes; fi
[ ! -r "$cron" ] || say cron_starts yes
[ ! -r "$unit" ] || say unit "$(sha256sum <"$unit" | cut -c1-64)"
if [ -d /run/systemd/system ]; then
    [ "$(systemctl is-active "$(basename "$unit")" 2>/dev/null)" = active ] && say running yes
elif pid=$(cat "$node/supervise.pid" 2>/dev/null) && [ -d "/proc/$pid" ] &&
    tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q millpond; then say running yes; fi
[ ! -r "$node/running" ] || say running_version "$(cat "$node/running")"
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ address _ state _; do
    [ "$state" != 0A ] || say port "$((0x${address##*:}))"
done
say cores "$(nproc)"
while read -r key value _; do
    [ "$key" != MemTotal: ] || say memory "$value"
done </proc/meminfo
"""


@dataclass(frozen=True)
class Facts:
    """What was seen.

    Attributes:
        title: what people call the machine.
        clock_off_seconds: how far its clock is from ours; positive when it is ahead.
        machine: kind, as ``uname -m`` says it.
        systems: its system's name, and those it is like, such as ``("ubuntu", "debian")``.
        has_cron: whether cron runs, which starts loops with the machine where no systemd does.
        is_in_cron: whether it starts the node's loop.
        system_title: the system's name for people.
        packages: its release and kind as Debian calls them, such as ``bookworm-amd64``.
        has_apt: whether it installs packages by apt.
        has_systemd: whether systemd runs its services.
        pythons: version numbers by path, best first.
        bubblewrap: version of bubblewrap; empty when it is missing.
        candidates: versions that its own package lists offer, by package.
        free_bytes: of the places ``prefix``, ``node`` and ``disk``.
        disk_kind: what stands at the data disk's path; empty for nothing.
        is_disk_shared: whether the data disk is the system's disk.
        installed: names of whole installations.
        current: the one in use.
        config: what the node knows since it joined; empty before.
        unit_digest: SHA-256 of its service's unit.
        is_running: whether the service runs.
        running: what the service was started from.
        ports: on which something listens.
        cores: it has.
        memory_bytes: it has.
    """

    title: str
    clock_off_seconds: float = 0.0
    machine: str = ""
    systems: tuple[str, ...] = ()
    system_title: str = ""
    packages: str = ""
    has_apt: bool = False
    has_systemd: bool = False
    has_cron: bool = False
    is_in_cron: bool = False
    pythons: tuple[tuple[str, str], ...] = ()
    bubblewrap: str = ""
    candidates: dict[str, str] = field(default_factory=dict)
    free_bytes: dict[str, int] = field(default_factory=dict)
    disk_kind: str = ""
    is_disk_shared: bool = False
    installed: tuple[str, ...] = ()
    current: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    unit_digest: str = ""
    is_running: bool = False
    running: str = ""
    ports: frozenset[int] = frozenset()
    cores: int = 0
    memory_bytes: int = 0


def look(target: Target, data_disk: str = "") -> Facts:
    """Look at a machine; nothing on it is changed.

    Raises:
        ConflictError: it has no plain shell.
    """
    places = {
        "prefix": PREFIX,
        "node": NODE_FOLDER,
        "unit": f"{UNIT_FOLDER}/{WORKER_UNIT}",
        "disk": data_disk,
        "cron": NODE_CRON_FILE,
    }
    named = "".join(f"{name}={shlex.quote(value)}\n" for name, value in places.items())
    ours = time.time()
    done = target.run(named + _LOOK.replace("@CRON@", IS_CRON_THERE))
    if "machine=" not in done.out:
        raise ConflictError(
            f"{target.title} does not understand a plain script: {done.last_words}",
            next_step="Millpond sets up Debian and Ubuntu; sign in there by hand and look.",
        )
    return read_facts(target.title, done.out, ours)


def read_facts(title: str, text: str, ours: float) -> Facts:
    """Read what the script wrote.

    Args:
        title: what people call the machine.
        text: lines ``name=value``.
        ours: our own clock when it looked at its, in seconds.
    """
    one: dict[str, str] = {}
    many: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            one[name] = value.strip()
            many.setdefault(name, []).append(value.strip())
    halves = [each.partition(" ") for each in many.get("python", [])]
    pythons = [(path, version) for path, _, version in halves]
    pythons.sort(key=lambda each: numbers(each[1]), reverse=True)
    release, kind = one.get("release", ""), one.get("architecture", "")
    names = [name for name in one if name.startswith("candidate_") and one[name] != "(none)"]
    return Facts(
        title,
        clock_off_seconds=_whole(one.get("now"), ours) - ours,
        machine=one.get("machine", ""),
        systems=tuple(one.get("system", "").split()),
        system_title=one.get("system_title", "an unknown system"),
        packages=f"{release}-{kind}" if release and kind else "",
        has_apt="apt" in one,
        has_systemd="systemd" in one,
        has_cron="cron" in one,
        is_in_cron="cron_starts" in one,
        pythons=tuple(each for each in pythons if each[1]),
        bubblewrap=one.get("bubblewrap", "").removeprefix("bubblewrap").strip(),
        candidates={name.removeprefix("candidate_"): one[name] for name in names if one[name]},
        free_bytes={
            name.removeprefix("free_"): int(_whole(value)) * 1024
            for name, value in one.items()
            if name.startswith("free_")
        },
        disk_kind=one.get("disk_kind", ""),
        is_disk_shared="disk_shared" in one,
        installed=tuple(many.get("installed", [])),
        current=one.get("current", ""),
        config=_config(one.get("config", "")),
        unit_digest=one.get("unit", ""),
        is_running="running" in one,
        running=one.get("running_version", ""),
        ports=frozenset(int(port) for port in many.get("port", []) if port.isdigit()),
        cores=int(_whole(one.get("cores"))),
        memory_bytes=int(_whole(one.get("memory"))) * 1024,
    )


def numbers(version: str) -> tuple[int, ...]:
    """Give the numbers that a version begins with: (3, 11, 2) for ``1:3.11.2-1+b1``."""
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", version)
    return tuple(int(part) for part in found.group(1).split(".")) if found else ()


def _whole(text: str | None, default: float = 0) -> float:
    return float(text) if text and text.isdigit() else default


def _config(text: str) -> dict[str, Any]:
    """Read a node's own file; a damaged one counts as one of nobody's."""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {"name": "", "installation": "damaged"}
    return found if isinstance(found, dict) else {"name": "", "installation": "damaged"}
