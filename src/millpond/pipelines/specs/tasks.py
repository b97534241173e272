"""Compile a version: wait for its environment, read its code in the sandbox, settle the outcome."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from millpond.audit.actions import note
from millpond.engine.values import Entry, Limits, StagedInput, TaskReport, TaskSpec
from millpond.environments.actions import get_version as get_environment
from millpond.environments.actions import lock_text
from millpond.ground.actor import SYSTEM
from millpond.ground.canonical import digest_of
from millpond.ground.errors import BusyError, MillpondError, TooManyError
from millpond.jobs.actions import put
from millpond.jobs.port import Handler, Lease
from millpond.jobs.values import Job
from millpond.kit.compile import SPEC_FILE
from millpond.lake.manifests import read_manifest
from millpond.lake.values import object_key
from millpond.pipelines.port import PipelineTools, environment_of
from millpond.pipelines.single import run_task
from millpond.pipelines.specs import store
from millpond.pipelines.specs.actions import COMPILE_KIND
from millpond.pipelines.specs.logs import compiled_prefix
from millpond.pipelines.specs.reading import SPEC_BYTES_MOST, read_faults, read_spec
from millpond.pipelines.specs.rules import reason_of
from millpond.pipelines.values import PipelineSpec, PipelineVersion
from millpond.storage.database import Transaction
from millpond.storage.events import publish
from millpond.storage.port import ObjectStore

_MEMORY, _PROCESSES, _DISK = 2 << 30, 64, 64 << 20


@dataclass(frozen=True)
class _Loaded:
    project_id: str
    version: PipelineVersion
    function: str
    environment_state: str
    environment_reason: str
    lock: str
    lock_digest: str


@dataclass(frozen=True)
class _Outcome:
    spec: PipelineSpec | None = None
    reason: str = ""
    faults: tuple[dict[str, Any], ...] = ()


def make_compile(tools: PipelineTools) -> Handler:
    """Make the handler of ``pipelines.compile``."""

    def compile_version(lease: Lease) -> None:
        version_id = str(lease.job.facts["version_id"])
        loaded = tools.database.read(lambda tx: _load(tx, version_id))
        if loaded is None or loaded.version.state != "compiling":
            return
        if loaded.environment_state in ("locking", "building"):
            _look_again(tools, lease)
            return
        if loaded.environment_state == "failed":
            told = f"Its packages can't be installed. {loaded.environment_reason}"
            outcome = _Outcome(reason=told)
        else:
            outcome = _compile(tools, lease, loaded)
        tools.database.change(lambda tx: _settle(tx, lease, loaded, outcome))

    return compile_version


def give_up_compile(tx: Transaction, job: Job) -> None:
    """Mark a version failed whose job is dead or was cancelled."""
    loaded = _load(tx, str(job.facts["version_id"]))
    if loaded is not None:
        words = f"Compiling was given up after {job.tries} tries. {job.reason}".strip()
        _end(tx, loaded, _Outcome(reason=words))


def _load(tx: Transaction, version_id: str) -> _Loaded | None:
    found = store.find_by_id(tx, version_id)
    if found is None:
        return None
    project_id, version = found
    function = store.read_function(tx, version_id)
    if not version.environment:
        return _Loaded(project_id, version, function, "ready", "", "", "")
    environment = get_environment(tx, project_id, version.environment)
    is_ready = environment.state == "ready"
    lock = lock_text(tx, project_id, version.environment) if is_ready else ""
    state, reason = environment.state, environment.reason
    return _Loaded(project_id, version, function, state, reason, lock, environment.lock_digest)


def _look_again(tools: PipelineTools, lease: Lease) -> None:
    """Give the worker free and come back: the environment's own job may need it."""
    facts = dict(lease.job.facts)
    looks = facts["looks"] = int(facts.get("looks", 0)) + 1
    wait = timedelta(seconds=min(tools.pace.wait_seconds * 1.2**looks, 5.0))

    def later(tx: Transaction) -> None:
        lease.finish(tx)
        key = f"{facts['version_id']}/{looks}"
        project_id = lease.job.project_id
        put(tx, COMPILE_KIND, facts, key=key, project_id=project_id, run_at=tx.now + wait)

    tools.database.change(later)


def _compile(tools: PipelineTools, lease: Lease, loaded: _Loaded) -> _Outcome:
    try:
        environment, _ = environment_of(tools, loaded.lock)
        task = _task(tools, lease, loaded, environment)
        share = f"{loaded.project_id}/{task.user_id}"
        report = run_task(tools, lease, task, share)
    except MillpondError as fault:
        if isinstance(fault, BusyError | TooManyError):
            raise
        return _Outcome(reason=f"{fault.message} {fault.next_step}")
    return _read(tools.objects, report, tools.pace.compile_seconds)


def _task(tools: PipelineTools, lease: Lease, loaded: _Loaded, environment: str) -> TaskSpec:
    version = loaded.version
    attempt = f"{lease.job.id}/{lease.fence}"
    return TaskSpec(
        key=f"compile/{version.id}/{attempt}",
        user_id=str(lease.job.facts["user_id"]),
        project_id=loaded.project_id,
        environment=environment,
        code=stage_code(tools.objects, loaded.project_id, version.manifest_key),
        code_digest=version.code_digest,
        entry=Entry("millpond.compile:compile_folder", {"name": loaded.function}),
        output_prefix=f"{compiled_prefix(loaded.project_id, version.id)}{attempt}",
        limits=Limits(
            memory_bytes=_MEMORY,
            disk_bytes=_DISK,
            processes=_PROCESSES,
            seconds=tools.pace.compile_seconds,
        ),
        fork=False,
    )


def stage_code(objects: ObjectStore, project_id: str, manifest: str) -> tuple[StagedInput, ...]:
    """Give the files of a code manifest as a task stages them."""
    return tuple(
        StagedInput(
            each.os_path, f"object:{object_key(project_id, each.digest)}", each.size, each.digest
        )
        for each in read_manifest(objects, manifest).files
    )


def _read(objects: ObjectStore, report: TaskReport, seconds: float) -> _Outcome:
    is_ok = isinstance(report.result, dict) and report.result.get("ok") is True
    left = [output for output in report.outputs if output.path == SPEC_FILE]
    if report.outcome != "done" or not (is_ok and left):
        faults, reason = read_faults(report.result if report.outcome == "done" else None)
        return _Outcome(reason=reason or reason_of(report, seconds), faults=tuple(faults))
    if left[0].size > SPEC_BYTES_MOST:
        return _Outcome(reason="The specification is larger than 8 MiB: too many steps.")
    try:
        return _Outcome(spec=read_spec(objects.get(left[0].key)))
    except ValueError as fault:
        return _Outcome(reason=f"The specification can't be read: {fault}")


def _settle(tx: Transaction, lease: Lease, loaded: _Loaded, outcome: _Outcome) -> None:
    lease.finish(tx)
    _end(tx, loaded, outcome)


def _end(tx: Transaction, loaded: _Loaded, outcome: _Outcome) -> None:
    version = loaded.version
    spec = None if outcome.spec is None else outcome.spec.to_json()
    digest = "" if spec is None else digest_of(spec)
    state = "ready" if spec else "failed"
    values = {
        "state": state,
        "reason": outcome.reason[:4000],
        "faults": list(outcome.faults),
        "spec": spec,
        "spec_digest": digest,
        "lock_digest": loaded.lock_digest,
    }
    if not store.move_state(tx, version.id, ("compiling",), values):
        return
    project_id, target = loaded.project_id, f"pipeline/{version.address}"
    after = {"state": state, "spec_digest": digest, "lock_digest": loaded.lock_digest}
    verb = "compiled" if spec else "failed"
    note(tx, SYSTEM, f"pipeline.version.{verb}", target, project_id=project_id, after=after)
    publish(
        tx,
        project_id=project_id,
        topic=f"pipeline/{version.pipeline}",
        kind=f"pipeline.version.{state}",
        facts={"number": version.number, "reason": outcome.reason[:500]},
    )
