"""Lock and build a version: load, work outside of transactions, settle with a fence."""

from typing import Any

from millpond.audit.actions import note
from millpond.environments import store
from millpond.environments.logs import BuildLog, log_prefix
from millpond.environments.port import Builder, SourceBuilder
from millpond.environments.rules import list_packages
from millpond.environments.values import EnvironmentVersion, SourceOrder
from millpond.ground.actor import SYSTEM
from millpond.ground.canonical import digest_of_bytes
from millpond.ground.errors import BusyError, Fault, InvalidError, MillpondError, TooManyError
from millpond.jobs.port import Handler, Lease
from millpond.jobs.values import Job
from millpond.storage.database import Database, Transaction
from millpond.storage.events import publish
from millpond.storage.port import ObjectStore


def make_build(
    database: Database, objects: ObjectStore, builder: Builder, sources: SourceBuilder | None = None
) -> Handler:
    """Make the handler of ``environments.build``.

    A server that is killed in the middle costs nothing: the next try goes on with the lock that
    was settled, and a half-made venv is thrown away by the builder.
    """

    def build(lease: Lease) -> None:
        version_id = str(lease.job.facts["version_id"])
        found = database.read(lambda tx: store.find_by_id(tx, version_id))
        if found is None or found[1].state in ("ready", "failed"):
            return
        project_id, version = found
        lock = database.read(lambda tx: store.read_lock(tx, version_id))
        reason = ""
        log = BuildLog(objects, log_prefix(project_id, version_id))
        with log:
            try:
                if not lock:
                    log.add(f"Locking {version.address} for Python {builder.python_version}")
                    lock = _lock(lease, found, builder, sources, log)
                    _settle_lock(database, lease, found, lock, builder.python_version)
                log.add(f"Building {version.address}")
                builder.ensure(lock, log.add)
                log.add("Ready")
            except MillpondError as fault:
                log.add(f"{fault.message} {fault.next_step}")
                is_later = isinstance(fault, (BusyError, TooManyError))
                if is_later and lease.job.tries < lease.job.max_tries:
                    raise
                reason = _in_words(fault)
        _settle(database, lease, found, reason)

    return build


def _lock(
    lease: Lease,
    found: tuple[str, EnvironmentVersion],
    builder: Builder,
    sources: SourceBuilder | None,
    log: BuildLog,
) -> str:
    project_id, version = found
    if not version.build_from_source:
        return builder.lock(version.requirements, log.add)
    if sources is None:
        raise InvalidError(
            "This server builds no packages from source.",
            next_step="Use versions that have wheels.",
            faults=[Fault("build_from_source", "is not offered here")],
        )
    order = SourceOrder(
        project_id=project_id,
        version_id=version.id,
        user_id=str(lease.job.facts["user_id"]),
        requirements=version.requirements,
        names=version.build_from_source,
    )
    return sources.lock(order, lease, log.add)


def give_up(tx: Transaction, job: Job) -> None:
    """Mark a version failed whose job is dead or was cancelled."""
    found = store.find_by_id(tx, str(job.facts["version_id"]))
    if found is not None:
        words = f"The build was given up after {job.tries} tries. {job.reason}".strip()
        _end(tx, found, words)


def _settle_lock(
    database: Database,
    lease: Lease,
    found: tuple[str, EnvironmentVersion],
    lock: str,
    python_version: str,
) -> None:
    digest = digest_of_bytes(lock.encode())
    packages = [[one.name, one.version] for one in list_packages(lock)]
    values: dict[str, Any] = {
        "state": "building",
        "lock": lock,
        "lock_digest": digest,
        "python_version": python_version,
        "packages": packages,
    }

    def settle(tx: Transaction) -> None:
        lease.hold(tx)
        if store.move_state(tx, found[1].id, ("locking",), values):
            _tell(tx, found, "locked", {"lock_digest": digest})
            _publish(tx, found, "building", {"packages": len(packages)})

    database.change(settle)


def _settle(
    database: Database,
    lease: Lease,
    found: tuple[str, EnvironmentVersion],
    reason: str,
) -> None:
    def settle(tx: Transaction) -> None:
        lease.finish(tx)
        _end(tx, found, reason)

    database.change(settle)


def _end(tx: Transaction, found: tuple[str, EnvironmentVersion], reason: str) -> None:
    state = "failed" if reason else "ready"
    values: dict[str, Any] = {"state": state, "reason": reason[:4000]}
    if not reason:
        values["ready_at"] = tx.now
    if store.move_state(tx, found[1].id, ("locking", "building"), values):
        _tell(tx, found, state, {"state": state, "reason": reason})
        _publish(tx, found, state, {"reason": reason})


def _tell(
    tx: Transaction, found: tuple[str, EnvironmentVersion], verb: str, after: dict[str, Any]
) -> None:
    project_id, version = found
    target = f"environment/{version.address}"
    note(tx, SYSTEM, f"environment.version.{verb}", target, project_id=project_id, after=after)


def _publish(
    tx: Transaction, found: tuple[str, EnvironmentVersion], state: str, facts: dict[str, Any]
) -> None:
    project_id, version = found
    publish(
        tx,
        project_id=project_id,
        topic=f"environment/{version.name}",
        kind=f"environment.version.{state}",
        facts={"number": version.number, "state": state, **facts},
    )


def _in_words(fault: MillpondError) -> str:
    is_told = isinstance(fault, InvalidError)
    return fault.message if is_told else f"{fault.message} {fault.next_step}"
