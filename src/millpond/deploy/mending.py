"""Do what is due on a machine; each script can be repeated, also after one that ended halfway."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from millpond.deploy.background import forget_loop, start_loop
from millpond.deploy.facts import Facts
from millpond.deploy.judging import Wanted, best_python, is_new_bubblewrap, offered_python
from millpond.deploy.places import (
    CURRENT_MILLPOND,
    LOOP,
    NODE_FOLDER,
    PREFIX,
    UNIT_FOLDER,
    WORKER_UNIT,
)
from millpond.deploy.target import Target, feed_text, must, send
from millpond.deploy.units import worker_unit
from millpond.deploy.wheelhouse import Kit, Wheelhouse
from millpond.ground.errors import ConflictError
from millpond.machines.port import MakeTicket

_INSTALL_DEBS = Path(__file__).with_name("install_debs.sh")
_APT_SECONDS = 900
_INSTALL_SECONDS = 1800
_APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300"
    " -o Acquire::Retries=1 -o Acquire::http::Timeout=10 -o Acquire::https::Timeout=10"
)


@dataclass(frozen=True)
class Work:
    """What the steps are given.

    Attributes:
        target: the machine.
        facts: what it is like now.
        wanted: what it shall become.
        wheelhouse: what it is installed from.
        kit: of it, what this machine needs; None while its Python is not known.
        slots: tasks at a time; 0: one per core.
        make_ticket: gives leave to join.
    """

    target: Target
    facts: Facts
    wanted: Wanted
    wheelhouse: Wheelhouse
    kit: Kit | None
    slots: int
    make_ticket: MakeTicket


def install_python(work: Work) -> None:
    """Install a Python that is new enough."""
    _install_package(work, offered_python(work.facts), "python3")


def install_sandbox(work: Work) -> None:
    """Install bubblewrap."""
    offered = work.facts.candidates.get("bubblewrap", "")
    _install_package(work, "bubblewrap" if is_new_bubblewrap(offered) else "", "bubblewrap")


def _install_package(work: Work, offered: str, name: str) -> None:
    """Install by its own packages, or by those that the host brings when it cannot reach any."""
    debs = work.wheelhouse.find_debs(work.facts.packages)
    said = ""
    if offered or not debs:
        package = offered or name
        install = f"{_APT} install --no-install-recommends {package}"
        script = f"{install} || {{ {_APT} update && {install}; }}"
        done = work.target.run(script, seconds=_APT_SECONDS)
        if not done.code:
            return
        said = done.last_words
    if not debs:
        raise ConflictError(
            f"{work.target.title}: its packages could not be installed:\n{said}",
            next_step=f"Install {name} there by hand; or, where it has no Internet, gather"
            f" packages for {work.facts.packages or 'its system'} on the host: ./dev wheelhouse,"
            " on a host with the same system.",
        )
    _install_debs(work.target, debs, name)


def _install_debs(target: Target, debs: Mapping[str, Path], name: str) -> None:
    """Install what is missing of a set of packages, in whatever order apt finds right."""
    at = f"{PREFIX}/.debs"
    send(target, debs, at)
    script = f"set -- {at}\n{_INSTALL_DEBS.read_text()}"
    what = f"installing {name} from the host's packages"
    must(target, script, what, seconds=_APT_SECONDS)
    must(target, f"rm -rf {at}", "tidying up")


def install_millpond(work: Work) -> None:
    """Install this very Millpond beside whatever is there; it is not in use yet."""
    found, kit = best_python(work.facts), work.kit
    assert found is not None  # noqa: S101 - the step before made sure.
    assert kit is not None  # noqa: S101 - the same.
    install_kit(work.target, kit, found[0])


def install_kit(target: Target, kit: Kit, python: str) -> None:
    """Install from a kit, with nothing but an interpreter: no pip, no index, no Internet.

    Raises:
        ConflictError: something did not arrive, or is not what the lock says, or no room is left.
    """
    at, home = f"{PREFIX}/.kit", f"{PREFIX}/{kit.name}"
    send(target, kit.files, at)
    must(
        target,
        f"""set -eu
umask 022
export UV_CACHE_DIR={PREFIX}/.cache UV_PYTHON_DOWNLOADS=never UV_NO_CONFIG=1 UV_LINK_MODE=hardlink
rm -rf {home}
{at}/uv venv --quiet --offline --python {shlex.quote(python)} {home}
{at}/uv pip install --quiet --offline --no-index --find-links {at} --no-deps --require-hashes \
    --compile-bytecode --python {home}/bin/python -r {at}/lock.txt
{home}/bin/millpond --version >/dev/null
rm -rf {PREFIX}/.cache
sync -f {home} || sync
: >{home}/.complete""",
        f"installing Millpond {kit.version}",
        seconds=_INSTALL_SECONDS,
    )


def use_kit(target: Target, name: str) -> None:
    """Make an installation the one that is used from the next start on."""
    must(
        target,
        f"cd {PREFIX} && ln -sfn {shlex.quote(name)} .next && mv -T .next current",
        "changing to the new version",
    )


def make_disk(work: Work) -> None:
    """Make the folder of objects."""
    must(work.target, f"mkdir -p {shlex.quote(work.wanted.data_disk)}", "making the data folder")


def join(work: Work) -> None:
    """Join with a token, which goes over by standard input and is seen by nobody.

    Raises:
        ConflictError: the server refused; its words.
    """
    use_kit(work.target, work.wanted.kit)
    ticket, wanted = work.make_ticket(), work.wanted
    words = [CURRENT_MILLPOND, "node", "join", ticket.url, "-", "--name", wanted.name]
    words += ["--folder", NODE_FOLDER]
    words += ["--data-disk", wanted.data_disk] if wanted.data_disk else []
    words += ["--slots", str(work.slots)] if work.slots else []
    done = work.target.run(
        f"umask 077; {shlex.join(words)}", feed=feed_text(ticket.token + "\n"), seconds=120
    )
    if done.code:
        raise ConflictError(
            f"{work.target.title} could not join:\n{done.last_words}",
            next_step="Mend what it says, then do the same again: what is done stays done.",
        )


def start_service(work: Work) -> None:
    """Start the node's service, or start it again, with the installation that is wanted."""
    use_kit(work.target, work.wanted.kit)
    restart(work.target, work.wanted.data_disk, work.wanted.kit, has_systemd=work.facts.has_systemd)


def restart(
    target: Target, data_disk: str, kit: str, *, has_systemd: bool, is_watched: bool = True
) -> None:
    """Start the node's service anew with the installation in use, and see that it stays.

    Args:
        target: the machine.
        data_disk: folder of its objects.
        kit: name of the installation.
        has_systemd: whether systemd runs its services.
        is_watched: whether to see that it stays. One that goes back to an old version does not
            while the server is newer, since the server refuses it.

    Raises:
        ConflictError: it does not stay; the message holds its last words.
    """
    if has_systemd:
        must(target, forget_loop(NODE_FOLDER, LOOP), "stopping what ran before systemd did")
        start_unit(target, WORKER_UNIT, worker_unit(data_disk), is_watched=is_watched)
    else:
        words = f"-m millpond.worker --folder {NODE_FOLDER} --supervise"
        watched = be_steady if is_watched else None
        start_loop(target, NODE_FOLDER, words, LOOP, be_steady=watched)
    must(target, f"echo {shlex.quote(kit)} >{NODE_FOLDER}/running", "noting what runs")


def start_unit(target: Target, name: str, text: str, *, is_watched: bool = True) -> None:
    """Write a unit, let systemd start it at every start of the machine, and (re)start it now."""
    done = target.run(f"cat >{UNIT_FOLDER}/{name}", feed=feed_text(text))
    if done.code:
        raise ConflictError(
            f"{target.title}: the unit could not be written: {done.last_words}",
            next_step=f"Look whether {UNIT_FOLDER} is there and its disk has room.",
        )
    script = f"systemctl daemon-reload && systemctl enable --quiet {name}"
    must(target, f"{script} && systemctl restart {name}", f"starting {name}")
    if is_watched:
        process = f"systemctl show -p MainPID --value {name}"
        be_steady(target, process, f"journalctl -u {name} -n 8 -o cat")


def be_steady(target: Target, pid: str, log: str) -> None:
    """Wait until the same process of a service has lived for a few seconds.

    Raises:
        ConflictError: it ends again and again; the message holds its last words.
    """
    script = f"""before=- same=0 n=0
while [ $same -lt 6 ] && [ $n -lt 60 ]; do
    now=$({pid} 2>/dev/null); n=$((n + 1))
    case $now in
        "" | 0) same=0 ;;
        "$before") same=$((same + 1)) ;;
        *) before=$now same=0 ;;
    esac
    sleep 0.5
done
[ $same -ge 6 ] || {{ {log}; exit 1; }}"""
    must(target, script, "keeping the service running")


def stop_service(target: Target) -> None:
    """Stop the node's service, and let it not start again; none is no fault."""
    must(
        target,
        f"""set -eu
if [ -e {UNIT_FOLDER}/{WORKER_UNIT} ]; then
    if [ -d /run/systemd/system ]; then systemctl disable --quiet --now {WORKER_UNIT}; fi
    rm -f {UNIT_FOLDER}/{WORKER_UNIT}
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
{forget_loop(NODE_FOLDER, LOOP)}
rm -f {NODE_FOLDER}/running""",
        "stopping the service",
    )


MENDS: Mapping[str, Callable[[Work], None]] = {
    "python": install_python,
    "sandbox": install_sandbox,
    "millpond": install_millpond,
    "disk": make_disk,
    "membership": join,
    "service": start_service,
}
"""By step, what does what is due."""
