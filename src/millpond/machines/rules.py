"""Decide, without reading or writing anything: who may join, how a node is, what it is given."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.ground.room_settings import ClusterSettings
from millpond.ground.versions import is_same, number_of
from millpond.machines.values import (
    CLOCK_SECONDS_MOST,
    PYTHON_LEAST,
    RESERVED_NAMES,
    TOKEN_PREFIX,
    NodeFacts,
    NodeState,
)

FINGERPRINT_LENGTH = 16
NAME_LENGTH_MOST = 40
NAME_WORDS = "1 to 40 lower-case letters, digits and hyphens, a letter or digit first and last"
LABELS_MOST, LABEL_LENGTH_MOST = 20, 80
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_LABEL = re.compile(r"[a-z0-9][a-z0-9._/-]*")
_ADDRESS = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?|::1?")
_CORES_MOST, _SLOTS_PER_CORE_MOST, _GPUS_MOST = 4096, 4, 64
_MEMORY_MOST = 1 << 46
VERSION = "version"
"""The kind of fault that a machine has which runs another version than the server."""


# Names, addresses, labels ------------------------------------------------------------------------


def faults_of_name(name: str) -> list[Fault]:
    """Say what is wrong with the name of a node: it stands in certificates and host names."""
    if not _NAME.fullmatch(name):
        return [Fault("name", f"must be {NAME_WORDS}")]
    if name in RESERVED_NAMES:
        return [Fault("name", f"{name!r} is kept for Millpond itself")]
    return []


def name_of(text: str) -> str:
    """Make a name of a machine's own, such as ``Worker_1.lab.example``; may be empty."""
    first = text.lower() if re.fullmatch(r"[0-9.:]+", text) else text.lower().partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", first)[:NAME_LENGTH_MOST].strip("-")


def faults_of_address(address: str, field: str = "address") -> list[Fault]:
    """Say what is wrong with the name or address of a machine; never an option of a program."""
    if _ADDRESS.fullmatch(address) and (":" not in address or _is_ipv6(address)):
        return []
    return [Fault(field, "must be a host name or an address, without port or user")]


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def is_loopback(url: str) -> bool:
    """Tell whether only this machine reaches an address."""
    host = urlsplit(url).hostname or ""
    return host.startswith("127.") or host in ("::1", "localhost")


def faults_of_labels(labels: Mapping[str, str]) -> list[Fault]:
    """Say what is wrong with labels."""
    faults = []
    if len(labels) > LABELS_MOST:
        faults.append(Fault("labels", f"are {len(labels)}; at most {LABELS_MOST} are kept"))
    for key, value in labels.items():
        if not _LABEL.fullmatch(key) or len(key) > LABEL_LENGTH_MOST:
            faults.append(
                Fault(
                    f"labels.{key[:40]}",
                    f"a label's name is at most {LABEL_LENGTH_MOST} lower-case letters, digits and"
                    " . _ / -, a letter or digit first",
                )
            )
        if len(value) > LABEL_LENGTH_MOST or not value.isprintable():
            faults.append(
                Fault(
                    f"labels.{key[:40]}",
                    f"a label's value is at most {LABEL_LENGTH_MOST} printable characters",
                )
            )
    return faults


def refuse(what: str, faults: Iterable[Fault], **facts: object) -> None:
    """Raise all faults at once, if there are any."""
    found = list(faults)
    if found:
        said = "; ".join(f"{fault.field}: {fault.message}" for fault in found)
        raise InvalidError(
            f"{what} cannot be taken as it is: {said}.",
            next_step="Correct what is named and try again; nothing was changed.",
            faults=found,
            **facts,
        )


# Joining -----------------------------------------------------------------------------------------


def end_of_token(fingerprint: str) -> str:
    """Give the end of a join token, by which a machine knows the authority."""
    return fingerprint[:FINGERPRINT_LENGTH]


def fingerprint_in(token: str) -> str:
    """Read the end of a join token; empty where it is none.

    The secret before it may hold dashes and underscores, never a dot.
    """
    secret, dot, end = token.strip().rpartition(".")
    is_ours = secret.startswith(f"{TOKEN_PREFIX}_") and len(end) == FINGERPRINT_LENGTH
    return end.upper() if dot and is_ours else ""


def check_version(name: str, theirs: str, ours: str, *, is_node: bool) -> None:
    """Refuse a machine with another version of Millpond than the server's.

    Raises:
        ConflictError: it differs; says which command mends it.
    """
    if is_same(theirs, ours):
        return
    number, theirs = number_of(ours), theirs[:40]
    # Of the same number there may be other code, as in a checkout: no index has that.
    is_installable = number_of(theirs) != number
    install = f"`pip install millpond=={number}`" if is_installable else "from the same wheel"
    step = (
        f"Run `millpond node upgrade {name}` on the host, or install {ours} on the node and start"
        " its service again."
        if is_node
        else f"Install the server's version on the machine, {install}, and"
        " join again; or have the host do it: `millpond node add USER@HOST`."
    )
    raise ConflictError(
        f"{name} runs Millpond {theirs}, and the server runs {ours}: they must be the same.",
        next_step=step,
        kind=VERSION,
        theirs=theirs,
        ours=ours,
    )


def faults_of_clock(sent_at: datetime, now: datetime) -> list[Fault]:
    """Say by how much a machine's clock is wrong, where that is too much."""
    seconds = (sent_at - now).total_seconds()
    if abs(seconds) <= CLOCK_SECONDS_MOST:
        return []
    which = "ahead of" if seconds > 0 else "behind"
    return [
        Fault(
            "sent_at",
            f"the machine's clock is {_span(abs(seconds))} {which} the server's, and at most"
            f" {CLOCK_SECONDS_MOST:.0f} s are allowed",
        )
    ]


def check_clock(name: str, sent_at: datetime, now: datetime) -> None:
    """Refuse the heartbeat of a node whose clock is wrong.

    Raises:
        InvalidError: it differs by more than ``CLOCK_SECONDS_MOST``.
    """
    faults = faults_of_clock(sent_at, now)
    if faults:
        raise InvalidError(
            f"{name}: {faults[0].message}.", next_step=CLOCK_STEP, faults=faults, kind="clock"
        )


CLOCK_STEP = (
    "Set the clock of the machine that is wrong, for example with `timedatectl set-ntp true`, or"
    " `date -u -s 'YYYY-MM-DD HH:MM:SS'` where there is no network time."
)


def faults_of_python(version: str) -> list[Fault]:
    """Say that a machine's Python is too old, or that this is no version."""
    parts = re.match(r"(\d{1,3})\.(\d{1,3})", version)
    if parts and (int(parts[1]), int(parts[2])) >= PYTHON_LEAST:
        return []
    least = ".".join(map(str, PYTHON_LEAST))
    return [Fault("python", f"is {version[:20] or 'not told'}; {least} or newer is needed")]


def faults_of_facts(facts: NodeFacts) -> list[Fault]:
    """Say what of a node's word about itself cannot be."""
    faults = [*faults_of_address(facts.address)]
    if not 0 < facts.cores <= _CORES_MOST:
        faults.append(Fault("cores", f"are {facts.cores:g}; between 0 and {_CORES_MOST} can be"))
    most = min(_CORES_MOST, max(facts.cores, 1) * _SLOTS_PER_CORE_MOST)
    if not 0 <= facts.slots <= most:
        faults.append(
            Fault(
                "slots",
                f"are {facts.slots:g} on {facts.cores:g} cores; {most:g} at most are believed",
            )
        )
    if not 0 < facts.memory_bytes <= _MEMORY_MOST:
        faults.append(Fault("memory_bytes", f"is {facts.memory_bytes:,}; that cannot be"))
    if not 0 <= facts.gpus <= _GPUS_MOST:
        faults.append(Fault("gpus", f"are {facts.gpus}; 0 to {_GPUS_MOST} can be"))
    ports = {"data_port": facts.data_port, "worker_port": facts.worker_port}
    most = 65535
    return faults + [Fault(name, "is no port") for name, port in ports.items() if port > most]


# How a node is -----------------------------------------------------------------------------------


def state_of(  # noqa: PLR0911 - one return for each state.
    stage: str,
    *,
    is_draining: bool,
    silent_seconds: float | None,
    told: str,
    limits: ClusterSettings,
    is_other_version: bool = False,
) -> NodeState:
    """Decide in which state a node is.

    Args:
        stage: ``joining`` before its first heartbeat, ``joined`` from then on, or ``removed``.
        is_draining: whether somebody wants it to take no more.
        silent_seconds: since its last sign; None when this server has not had the time yet to hear
            of it, and what was told last still counts.
        told: the state that was told last.
        limits: after how long a node counts as what.
        is_other_version: whether it answers, and is refused for its version of Millpond.
    """
    if stage == "removed":
        return "removed"
    if stage == "joining":
        return "joining"
    if is_other_version:
        return "other version"
    if silent_seconds is None:
        if told == "lost":
            return "lost"
        if told == "suspect":
            return "suspect"
    elif silent_seconds > limits.lost_seconds:
        return "lost"
    elif silent_seconds > limits.suspect_seconds:
        return "suspect"
    return "draining" if is_draining else "up"


def capped_slots(told: float, most: int) -> float:
    """Give the slots that are taken of a node: what it tells, up to what was agreed."""
    return min(told, most) if most > 0 else told


def capped_gpus(told: int, most: int) -> int:
    """Give the graphics processors that are taken of a node: 0 is a bound, -1 is none."""
    return min(told, most) if most >= 0 else told


def silence_in_words(seconds: float) -> str:
    """Say for how long nothing was heard."""
    return f"nothing was heard of it for {_span(seconds)}"


def _span(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - as people say it.
        return f"{seconds:.0f} s"
    if seconds < 7200:  # noqa: PLR2004 - as people say it.
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
