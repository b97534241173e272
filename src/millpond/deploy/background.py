"""Services where no systemd runs: a loop in the background, which cron starts with the machine."""

import shlex
from collections.abc import Callable

from millpond.deploy.facts import Facts
from millpond.deploy.places import CURRENT_PYTHON, IS_CRON_THERE, cron_file
from millpond.deploy.target import Target, must

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BeSteady = Callable[[Target, str, str], None]
"""Waits until the same process of a service has lived for a few seconds."""


def tell_start(facts: Facts) -> str:
    """Say what becomes of a loop when its machine is started again."""
    if facts.has_cron:
        return "which cron starts again with the machine"
    return "which nothing starts again with the machine: install and start cron there for that"


def start_loop(
    target: Target, folder: str, words: str, name: str, *, be_steady: BeSteady | None
) -> None:
    """Start a program in the background that starts its own service again whenever it ends.

    Args:
        target: the machine.
        folder: where its log is, and the number of its process.
        words: of the program, for Python.
        name: of the log and the other files.
        be_steady: sees that it stays; None where that is not looked at.
    """
    place, cron = shlex.quote(folder), shlex.quote(cron_file(folder, name))
    start = f"/bin/sh {shlex.quote(f'{folder}/{name}.start')}"
    in_cron = start.replace("%", r"\%")  # Which ends a line there.
    must(
        target,
        f"""set -eu
umask 022
cd {place}
{_stop(folder, name)}
cat >{name}.start <<'END'
# Starts a service of Millpond that goes on in the background; written at each start of it.
cd {place} || exit 1
touch {name}.log && chmod 600 {name}.log
setsid nohup {CURRENT_PYTHON} {words} </dev/null >>{name}.log 2>&1 &
echo $! >{name}.pid
END
{start}
if {IS_CRON_THERE}; then
cat >{cron} <<'END'
# Written by Millpond: a service is started with this machine.
PATH={_PATH}
@reboot root {in_cron}
END
else rm -f {cron}; fi""",
        "starting the service",
    )
    if be_steady is not None:
        child = f"pid=$(cat {place}/{name}.pid) && cat /proc/$pid/task/$pid/children"
        be_steady(target, child, f"tail -n 8 {place}/{name}.log")


def _stop(folder: str, name: str) -> str:
    at = shlex.quote(f"{folder}/{name}.pid")
    return f"""pid=$(cat {at} 2>/dev/null || true)
if [ -n "$pid" ] && [ -d "/proc/$pid" ] && grep -q millpond "/proc/$pid/cmdline"; then
    kill "$pid"; n=0
    while [ -d "/proc/$pid" ] && [ $n -lt 450 ]; do sleep 0.1; n=$((n + 1)); done
    [ ! -d "/proc/$pid" ] || kill -9 -- "-$pid" 2>/dev/null || kill -9 "$pid"
fi
rm -f {at}"""


def forget_loop(folder: str, name: str) -> str:
    """Give a script that stops a loop, if there is one, and lets nothing start it again."""
    cron, start = shlex.quote(cron_file(folder, name)), shlex.quote(f"{folder}/{name}.start")
    return f"rm -f {cron} {start}\n{_stop(folder, name)}"
