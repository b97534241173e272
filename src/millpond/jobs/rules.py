"""Decisions about jobs: what may be put, when to try again, whose lease is over, when to tick."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from millpond.ground.canonical import canonical_json
from millpond.ground.errors import Fault, InvalidError
from millpond.jobs.values import FACTS_BYTES, SeenLease

RETRY_SECONDS_FIRST = 1.0
RETRY_SECONDS_MOST = 300.0
KIND_LENGTH, KEY_LENGTH, NAME_LENGTH, CRON_LENGTH = 80, 200, 120, 120
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]*"
LOOKS = 3
"""A lease is taken over only after at least so many looks at it showed no heartbeat."""


def check_job(kind: str, facts: object, key: str | None, priority: int, max_tries: int) -> None:
    """Refuse what cannot be put, naming every fault.

    Raises:
        InvalidError: at least one field is wrong.
    """
    faults = faults_of_job(kind, facts, priority, max_tries)
    if key is not None and not 0 < len(key) <= KEY_LENGTH:
        faults.append(Fault("key", f"has {len(key)} characters; 1 to {KEY_LENGTH} are allowed"))
    _refuse("The job cannot be put.", faults)


def faults_of_job(kind: str, facts: object, priority: int, max_tries: int) -> list[Fault]:
    """List what is wrong with the parts that a job and a schedule have in common."""
    faults = []
    if not 0 < len(kind) <= KIND_LENGTH:
        faults.append(Fault("kind", f"has {len(kind)} characters; 1 to {KIND_LENGTH} are allowed"))
    try:
        size = len(canonical_json(facts))
    except (TypeError, ValueError) as fault:
        faults.append(Fault("facts", f"are not JSON: {fault}"))
    else:
        if not isinstance(facts, dict):
            faults.append(Fault("facts", "must be a JSON object"))
        if size > FACTS_BYTES:
            faults.append(
                Fault("facts", f"take {size} bytes as JSON; {FACTS_BYTES} are allowed at most")
            )
    if not -1000 <= priority <= 1000:  # noqa: PLR2004 - the bounds stand in the message too.
        faults.append(Fault("priority", f"is {priority}; -1000 to 1000 are allowed"))
    if not 1 <= max_tries <= 1000:  # noqa: PLR2004 - the bounds stand in the message too.
        faults.append(Fault("max_tries", f"is {max_tries}; 1 to 1000 are allowed"))
    return faults


def check_schedule(
    name: str, kind: str, facts: object, cron: str, time_zone: str, priority: int, max_tries: int
) -> None:
    """Refuse a schedule that could not work, naming every fault.

    Raises:
        InvalidError: at least one field is wrong.
    """
    faults = []
    if len(name) > NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        allowed = f"1 to {NAME_LENGTH} letters, digits, '.', '_' and '-' are allowed"
        faults.append(Fault("name", f"{name!r} is no name of a schedule; {allowed}"))
    faults += faults_of_job(kind, facts, priority, max_tries)
    if len(cron) > CRON_LENGTH:
        faults.append(Fault("cron", f"has {len(cron)} characters; at most {CRON_LENGTH}"))
    try:
        CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as fault:
        faults.append(
            Fault("cron", f"{cron!r} is no cron expression ({fault}), such as '30 2 * * *'")
        )
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        faults.append(
            Fault("time_zone", f"{time_zone!r} is not known; give one such as 'Europe/Berlin'")
        )
    _refuse("The schedule cannot be kept.", faults)


def _refuse(message: str, faults: Sequence[Fault]) -> None:
    if faults:
        raise InvalidError(
            message, next_step="Mend the fields listed and try again.", faults=faults
        )


def retry_seconds(tries: int, share: float) -> float:
    """Give the pause after so many tries: 1, 2, 4, ... 300 s, half of it fixed and half jitter.

    Args:
        tries: how many were begun, at least 1.
        share: evenly drawn from [0, 1), so that jobs that failed together do not return together.
    """
    whole = min(RETRY_SECONDS_MOST, RETRY_SECONDS_FIRST * 2.0 ** min(tries - 1, 30))
    return whole * (0.5 + 0.5 * share)


def next_tick(cron: str, time_zone: str, after: datetime) -> datetime | None:
    """Give the first tick later than this moment, in UTC; None when there is none for 50 years."""
    return _tick(CronSim(cron, after.astimezone(ZoneInfo(time_zone))))


def newest_tick(cron: str, time_zone: str, now: datetime) -> datetime | None:
    """Give the newest tick that is not later than this moment, in UTC."""
    following = now + timedelta(microseconds=1)
    return _tick(CronSim(cron, following.astimezone(ZoneInfo(time_zone)), reverse=True))


def _tick(ticks: CronSim) -> datetime | None:
    try:
        return next(ticks).astimezone(UTC)
    except StopIteration:
        return None


@dataclass
class _Silence:
    fence: int
    beats: int
    since: float
    last: float
    looks: int = 1


class Watch:
    """What one server knows of the other servers' heartbeats, timed by its own monotonic clock.

    A lease is over when the database's clock is past it AND this server has itself seen the same
    number of beats for the lease's whole length, in at least ``LOOKS`` looks without a gap of
    half that length. So a database clock that jumps expires nothing while holders beat; one
    that was set back keeps no dead holder's lease, since a lease further off than its own length
    counts as past; and after this server was paused, or the database was away, the watch begins
    anew instead of blaming the others for its own absence.
    """

    def __init__(self) -> None:
        """Begin without having seen anything."""
        self._seen: dict[str, _Silence] = {}

    def look(self, leases: Sequence[SeenLease], now: datetime, monotonic: float) -> list[SeenLease]:
        """Take in one look at all leases of others; give those that are over.

        Args:
            leases: every running job's lease but our own.
            now: the database's clock at that look.
            monotonic: our own clock at that look, in seconds.
        """
        seen: dict[str, _Silence] = {}
        over = []
        for lease in leases:
            silence = self._seen.get(lease.job_id)
            if silence is None or _begins_anew(silence, lease, monotonic):
                silence = _Silence(lease.fence, lease.beats, monotonic, monotonic)
            else:
                silence.last = monotonic
                silence.looks += 1
            seen[lease.job_id] = silence
            is_silent = monotonic - silence.since >= lease.lease_seconds
            if is_silent and silence.looks >= LOOKS and is_past(lease, now):
                over.append(lease)
        self._seen = seen
        return over


def _begins_anew(silence: _Silence, lease: SeenLease, monotonic: float) -> bool:
    has_changed = (silence.fence, silence.beats) != (lease.fence, lease.beats)
    return has_changed or monotonic - silence.last > lease.lease_seconds / 2


def is_past(lease: SeenLease, now: datetime) -> bool:
    """Tell whether the database's clock is outside of the lease, to either side."""
    return not now < lease.until <= now + timedelta(seconds=lease.lease_seconds)
