"""The job of a run: claim it, prepare its environment, drive it, collect what it left, settle."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from millpond.audit.actions import note
from millpond.environments.actions import lock_text
from millpond.ground.actor import SYSTEM
from millpond.ground.errors import BusyError, MillpondError, TooManyError
from millpond.jobs.port import Handler, Lease, LeaseLostError
from millpond.jobs.values import Job
from millpond.pipelines.outputs.values import Collected
from millpond.pipelines.port import PipelineTools, environment_of
from millpond.pipelines.runs import store, tries
from millpond.pipelines.runs.actions import tell_state
from millpond.pipelines.runs.driver import CancelledError, Driver
from millpond.pipelines.runs.graph import task_key
from millpond.pipelines.runs.staging import Staging, output_parts, task_prefix
from millpond.pipelines.runs.values import Loaded, Try
from millpond.pipelines.specs.actions import get_version_by_id
from millpond.pipelines.specs.tasks import stage_code
from millpond.pipelines.values import (
    RUN_ENDED,
    GatheredOutput,
    PipelineSpec,
    Run,
    RunCollection,
    RunState,
    StepRun,
    StoredObject,
    Task,
)
from millpond.storage.database import Transaction

_ALIVE = ("queued", "preparing", "running", "cancelling")
ReadSecrets = Callable[[Transaction, str, tuple[str, ...]], dict[str, str]]


@dataclass(frozen=True)
class _End:
    state: RunState
    reason: str = ""
    collected: Collected | None = None


def make_run(tools: PipelineTools, read_secrets: ReadSecrets) -> Handler:
    """Make the handler of ``pipelines.run``; ``read_secrets`` gives a project's secret values.

    A server that is killed at any point costs at most the tasks that were under way: the next
    driver has a higher fencing number and keeps all that was settled. It takes over the tasks that
    still run on nodes, and runs the others again under new attempts.
    """

    def run(lease: Lease) -> None:
        run_id = str(lease.job.facts["run_id"])
        loaded = tools.database.change(lambda tx: _claim(tx, lease, run_id))
        if loaded is None:
            return
        try:
            end = _work(tools, lease, loaded, read_secrets)
        except CancelledError:
            end = _End("cancelled")
        _stop_left(tools, loaded)
        tools.database.change(lambda tx: _settle(tx, lease, loaded, end))

    return run


def give_up_run(tx: Transaction, job: Job) -> None:
    """Mark a run failed whose job is dead or was cancelled."""
    found = store.find_own(tx, str(job.facts["run_id"]))
    if found is not None and found[0].state not in RUN_ENDED:
        reason = f"It was given up after {job.tries} tries. {job.reason}".strip()
        store.take_fence(tx, found[0].id)
        _end_run(tx, found[0], _End("failed", reason), None)


def _claim(tx: Transaction, lease: Lease, run_id: str) -> Loaded | None:
    """Take the run over: from here on a driver before this one writes nothing more."""
    lease.hold(tx)
    found = store.find_own(tx, run_id)
    if found is None or found[0].state in RUN_ENDED:
        return None
    run, own = found
    fence = store.take_fence(tx, run_id)
    if run.state == "queued":
        store.move_run(tx, run_id, ("queued",), {"state": "preparing", "started_at": tx.now})
        run = replace(run, state="preparing", started_at=tx.now)
        tell_state(tx, run, "preparing")
    tasks = store.list_kept_tasks(tx, run_id)
    no_fork = False
    if run.pipeline_version_id is None:
        read = PipelineSpec.from_json(own["spec"])
    else:
        version = get_version_by_id(tx, run.pipeline_version_id)
        assert version.spec is not None  # noqa: S101 - a run starts with a version that is ready.
        no_fork, read = version.no_fork, version.spec
    lock = lock_text(tx, run.project_id, run.environment) if run.environment else ""
    return Loaded(
        run=run,
        spec=read,
        user_id=own["user_id"],
        code_key=own["code_key"],
        fence=fence,
        lock=lock,
        secrets={},  # Read once the run is claimed, so that a missing one ends it in words.
        no_fork=no_fork,
        steps=tuple(store.list_kept_steps(tx, run_id)),
        tasks=tuple(tasks),
    )


def _work(tools: PipelineTools, lease: Lease, loaded: Loaded, read_secrets: ReadSecrets) -> _End:
    if loaded.run.state == "cancelling":
        raise CancelledError
    try:
        loaded = replace(loaded, secrets=_read_secrets(tools, loaded, read_secrets))
        environment, python = environment_of(tools, loaded.lock)
        tools.database.change(lambda tx: _begin(tx, lease, loaded))
        code = stage_code(tools.objects, loaded.run.project_id, loaded.code_key)
        driver = Driver(tools, lease, loaded, Staging(tools.objects, loaded, environment, code))
        driver.drive()
        return _finish(tools, loaded, driver, python)
    except MillpondError as fault:
        if isinstance(fault, BusyError | TooManyError) and lease.job.tries < lease.job.max_tries:
            raise
        return _End("failed", f"{fault.message} {fault.next_step}")


def _stop_left(tools: PipelineTools, loaded: Loaded) -> None:
    """Stop what a driver before left running on nodes, if this one ended before it took it over."""
    for task in loaded.tasks:
        if task.state == "running":
            tried = Try(task.step, task.partition, task.attempt)
            tools.dispatcher.cancel(task_key(loaded.run.id, tried))


def _read_secrets(
    tools: PipelineTools, loaded: Loaded, read_secrets: ReadSecrets
) -> Mapping[str, str]:
    names = tuple(sorted({name for step in loaded.spec.steps for name in step.secrets}))
    if not names:
        return {}
    return tools.database.read(lambda tx: read_secrets(tx, loaded.run.project_id, names))


def _begin(tx: Transaction, lease: Lease, loaded: Loaded) -> None:
    lease.hold(tx)
    run_id = loaded.run.id
    if store.touch_run(tx, run_id, loaded.fence, {"isolated": loaded.run.isolated}) is None:
        raise LeaseLostError
    if store.move_run(tx, run_id, ("preparing",), {"state": "running"}):
        tell_state(tx, loaded.run, "running")
    elif store.read_state(tx, run_id) != "running":
        raise CancelledError


def _finish(tools: PipelineTools, loaded: Loaded, driver: Driver, python: str) -> _End:
    steps = driver.graph.steps.values()
    bad = [step for step in steps if step.state == "failed"]
    reason = " ".join(f"Step {step.spec.name}: {step.reason}" for step in bad)
    state: RunState = "failed" if bad else "succeeded"
    run, listed, tasks = tools.database.read(lambda tx: _look(tx, loaded.run.id))
    run = replace(run, state=state, reason=reason, isolated=driver.isolated)
    gathered = tuple(
        GatheredOutput(
            each.name,
            each.kind,
            each.description,
            each.source["step"],
            _objects_of(driver, each.source["step"], each.source["output"], each.kind),
        )
        for each in loaded.spec.outputs
        if driver.graph.steps[each.source["step"]].state == "succeeded"
    )
    collection = RunCollection(
        run=run,
        spec=loaded.spec,
        pipeline={"address": run.what, "title": loaded.spec.title},
        environment={
            "address": run.environment,
            "lock_digest": run.lock_digest,
            "python": python,
        },
        machine={
            "nodes": sorted({task.node for task in tasks if task.node}),
            "platform": platform.platform(),
            "millpond": tools.version,
        },
        steps=listed,
        tasks=tasks,
        outputs=gathered,
        logs=_logs(loaded, listed, tasks),
        output_prefix=f"projects/{run.project_id}/outputs/{run.id}",
    )
    return _End(state, reason, tools.collect(tools.objects, collection))


def _look(tx: Transaction, run_id: str) -> tuple[Run, tuple[StepRun, ...], tuple[Task, ...]]:
    found = store.find_own(tx, run_id)
    if found is None:
        raise LeaseLostError
    tasks = tuple(task for _, task in store.list_tasks(tx, run_id))
    return found[0], tuple(store.list_steps(tx, run_id)), tasks


def _objects_of(driver: Driver, step: str, output: str, kind: str) -> tuple[StoredObject, ...]:
    parts = output_parts(driver.graph.steps[step].done, output)
    if kind != "table":
        return tuple(part.stored for part in parts)
    return tuple(
        replace(part.stored, path=f"{number:08d}-{part.stored.path}")
        for number, part in enumerate(parts)
    )


def _logs(
    loaded: Loaded, steps: tuple[StepRun, ...], tasks: tuple[Task, ...]
) -> dict[str, tuple[str, ...]]:
    run = loaded.run
    found: dict[str, list[str]] = {step.name: [] for step in steps}
    for task in tasks:
        if not task.log_bytes:
            continue
        tried = Try(task.step, task.partition, task.attempt)
        found[task.step].append(task_prefix(run.project_id, run.id, tried))
    return {name: tuple(prefixes) for name, prefixes in found.items() if prefixes}


def _settle(tx: Transaction, lease: Lease, loaded: Loaded, end: _End) -> None:
    lease.finish(tx)
    run = loaded.run
    if store.touch_run(tx, run.id, loaded.fence, {"fence": loaded.fence}) is None:
        raise LeaseLostError
    _end_run(tx, run, end, end.collected)


def _end_run(tx: Transaction, run: Run, end: _End, collected: Collected | None) -> None:
    values: dict[str, Any] = {"state": end.state, "ended_at": tx.now}
    if end.state != "cancelled":
        values["reason"] = end.reason[:4000]
    if collected is not None:
        values |= {
            "outputs_key": collected.manifest_key,
            "outputs_digest": collected.manifest_digest,
            "output_files": len(collected.manifest.files),
            "output_bytes": sum(each.size for each in collected.manifest.files),
        }
    if not store.move_run(tx, run.id, _ALIVE, values):
        return
    tries.end_running(tx, run.id, "cancelled", "It was ended with its run.")
    store.end_steps(tx, run.id, "cancelled" if end.state == "cancelled" else "skipped")
    after = {"state": end.state, "outputs": values.get("outputs_digest", "")}
    target = f"run/{run.id}"
    note(tx, SYSTEM, f"run.{end.state}", target, project_id=run.project_id, after=after)
    tell_state(tx, run, end.state, end.reason)
