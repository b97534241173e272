"""What a person can do with runs: start, look, cancel."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millpond.audit.actions import note
from millpond.environments.actions import get_version as get_environment
from millpond.ground.actor import Actor
from millpond.ground.canonical import digest_of
from millpond.ground.errors import ConflictError, Fault, InvalidError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.jobs.actions import put
from millpond.people.actions import missing_secrets, require
from millpond.pipelines.pinning import pin_inputs
from millpond.pipelines.rules import check_inputs, check_parameters, fill_parameters
from millpond.pipelines.runs import store
from millpond.pipelines.runs.values import RunFilter
from millpond.pipelines.specs.actions import get_version as get_pipeline_version
from millpond.pipelines.values import (
    PipelineSpec,
    PipelineVersion,
    Progress,
    Run,
    RunInput,
    StepRun,
    Task,
)
from millpond.storage.database import Transaction
from millpond.storage.events import publish

RUN_KIND = "pipelines.run"
RUNS_TOPIC = "runs"
"""Tells of every run of a project that begins or ends."""
_RUN_TRIES = 30
_ANY = RunFilter()
_ALIVE = ("queued", "preparing", "running")


@dataclass(frozen=True)
class Program:
    """A program that belongs to no pipeline: its one-step specification and its code."""

    name: str
    spec: PipelineSpec
    manifest_key: str


def start_run(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    what: str | Program,
    *,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
    environment: str | None = None,
) -> Run:
    """Start a run of a pipeline's address, or of a program; a job drives it.

    Args:
        tx: the transaction.
        actor: who starts it.
        project_id: the project.
        what: address of a pipeline version, or a program.
        inputs: dataset addresses by input name.
        parameters: values by parameter name; defaults stand in for the rest.
        environment: address of an environment version; None for the pipeline's own.

    Raises:
        InvalidError: something doesn't fit the form; lists every fault.
        NotFoundError: there is no such pipeline or environment.
        ConflictError: the pipeline version or the environment is not ready.
    """
    require(tx, actor, "pipeline.run", project_id)
    version = None if isinstance(what, Program) else _ready(tx, project_id, what)
    spec = what.spec if isinstance(what, Program) else _spec_of(version)
    pinned = _check_fit(tx, project_id, spec, inputs, parameters)
    address, lock_digest = _environment(tx, project_id, version, environment)
    key = what.manifest_key if isinstance(what, Program) else _key_of(version)
    made = Run(
        id=new_id("run"),
        project_id=project_id,
        what=what.name if isinstance(what, Program) else _address_of(version),
        pipeline_version_id=None if version is None else version.id,
        state="queued",
        reason="",
        parameters=fill_parameters(spec, parameters),
        inputs=pinned,
        environment=address,
        lock_digest=lock_digest,
        code_digest=key.rpartition("/")[2],
        spec_digest=digest_of(spec.to_json()) if version is None else version.spec_digest,
        seed=int.from_bytes(os.urandom(6), "big"),
        progress=Progress(steps_total=len(spec.steps)),
        created_at=tx.now,
        created_by=actor.name,
    )
    _write(tx, actor, made, spec, key)
    return made


def run_again(tx: Transaction, actor: Actor, project_id: str, run_id: str) -> Run:
    """Start a run of the same code on the same data with the same parameters.

    Raises:
        NotFoundError: the project has no such run, or its pipeline is gone.
        InvalidError: an input or a secret is gone; lists every fault.
        ConflictError: its environment is not ready.
    """
    require(tx, actor, "pipeline.run", project_id)
    before = get_run(tx, actor, project_id, run_id)
    what: str | Program = before.what
    if before.pipeline_version_id is None:
        own = store.find_own(tx, run_id)
        assert own is not None  # noqa: S101 - it was found just now.
        what = Program(before.what, PipelineSpec.from_json(own[1]["spec"]), own[1]["code_key"])
    return start_run(
        tx,
        actor,
        project_id,
        what,
        inputs={each.name: f"{each.dataset}@{each.number}" for each in before.inputs},
        parameters=before.parameters,
        environment=before.environment or None,
    )


def _ready(tx: Transaction, project_id: str, address: str) -> PipelineVersion:
    version = get_pipeline_version(tx, project_id, address)
    if version.state == "ready":
        return version
    told = "is still being compiled" if version.state == "compiling" else "can't run"
    raise ConflictError(
        f"{version.address} {told}. {version.reason}".strip(),
        next_step="Wait until it is ready."
        if version.state == "compiling"
        else "Mend the code and push it again.",
        state=version.state,
    )


def _spec_of(version: PipelineVersion | None) -> PipelineSpec:
    assert version is not None  # noqa: S101 - only a program has none.
    assert version.spec is not None  # noqa: S101 - it is ready.
    return version.spec


def _key_of(version: PipelineVersion | None) -> str:
    return "" if version is None else version.manifest_key


def _address_of(version: PipelineVersion | None) -> str:
    return "" if version is None else version.address


def _check_fit(
    tx: Transaction,
    project_id: str,
    spec: PipelineSpec,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> tuple[RunInput, ...]:
    """Pin the inputs; name at once everything that doesn't fit the form."""
    found, missing = pin_inputs(tx, project_id, inputs)
    known = {each.field for each in missing}
    faults = missing + [each for each in check_inputs(spec, found) if each.field not in known]
    faults += check_parameters(spec, parameters)
    faults += _check_secrets(tx, project_id, spec)
    if faults:
        count = "one thing does" if len(faults) == 1 else f"{len(faults)} things do"
        raise InvalidError(
            f"Nothing was started: {count} not fit the form of {spec.name!r}.",
            next_step="Mend what is listed and start it again; `millpond pipeline show` shows"
            " the form.",
            faults=faults,
        )
    return tuple(found[each.name] for each in spec.inputs if each.name in found)


def _check_secrets(tx: Transaction, project_id: str, spec: PipelineSpec) -> list[Fault]:
    """Name each secret that a step asks for and the project lacks, with how to set it."""
    asking: dict[str, list[str]] = {}
    for step in spec.steps:
        for name in step.secrets:
            asking.setdefault(name, []).append(step.name)
    return [
        Fault(
            f"secrets.{name}",
            f"step {', '.join(asking[name])} asks for the secret {name}, which the project does"
            f" not have: set it with `millpond secret set {name}`",
        )
        for name in missing_secrets(tx, project_id, tuple(asking))
    ]


def _environment(
    tx: Transaction, project_id: str, version: PipelineVersion | None, asked: str | None
) -> tuple[str, str]:
    if asked is None:
        return ("", "") if version is None else (version.environment, version.lock_digest)
    found = get_environment(tx, project_id, asked)
    if found.state != "ready":
        raise ConflictError(
            f"The environment {found.address} is {found.state}. {found.reason}".strip(),
            next_step="Wait until it is ready, or mend its requirements.",
            state=found.state,
        )
    return found.address, found.lock_digest


def _write(tx: Transaction, actor: Actor, made: Run, spec: PipelineSpec, code_key: str) -> None:
    own = {
        "spec": spec.to_json() if made.pipeline_version_id is None else None,
        "code_key": code_key,
        "fence": 0,
        "user_id": actor.user_id,
        "pipeline": made.what.partition("@")[0] if made.pipeline_version_id else "",
    }
    values = dict(vars(made), **own)
    values["inputs"] = store.input_json(made.inputs)
    values["progress"] = dict(vars(made.progress))
    steps = [
        {
            "run_id": made.id,
            "name": step.name,
            "place": place,
            "kind": step.kind,
            "needs": list(step.needs),
            "state": "waiting",
            "reason": "",
            "cuts": None,
            "partitions": 0,
            "partitions_done": 0,
            "cpu_seconds": 0.0,
            "memory_peak_bytes": 0,
            "slots": step.slots,
            "gpus": step.gpus,
        }
        for place, step in enumerate(spec.steps)
    ]
    store.add_run(tx, values, steps)
    facts = {"run_id": made.id}
    put(tx, RUN_KIND, facts, key=made.id, project_id=made.project_id, max_tries=_RUN_TRIES)
    after = {
        "what": made.what,
        "inputs": {each.name: each.digest for each in made.inputs},
        "parameters": digest_of(dict(made.parameters)),
        "code_digest": made.code_digest,
        "lock_digest": made.lock_digest,
    }
    note(tx, actor, "run.started", f"run/{made.id}", project_id=made.project_id, after=after)
    tell_state(tx, made, "queued")


def tell_state(tx: Transaction, told: Run, state: str, reason: str = "") -> None:
    """Tell of a run's state: who listens to it, and who listens to the project's runs."""
    facts = {"state": state, "what": told.what, "reason": reason[:500]}
    for topic in (f"run/{told.id}", RUNS_TOPIC):
        publish(
            tx,
            project_id=told.project_id,
            topic=topic,
            kind=f"pipeline.run.{state}",
            facts=facts | {"run": told.id},
        )


def get_run(tx: Transaction, actor: Actor, project_id: str, run_id: str) -> Run:
    """Show a run.

    Raises:
        NotFoundError: the project has no such run.
    """
    require(tx, actor, "run.read", project_id)
    found = store.find_run(tx, project_id, run_id)
    if found is None:
        raise NotFoundError(
            f"This project has no run {run_id[:80]!r}.",
            next_step="`millpond run list` shows the ones there are.",
        )
    return found


def get_own_spec(tx: Transaction, run_id: str) -> PipelineSpec | None:
    """Give the specification of a program's run; a pipeline's has none of its own.

    The caller has asked for leave.
    """
    own = store.find_own(tx, run_id)
    facts = None if own is None else own[1]["spec"]
    return None if facts is None else PipelineSpec.from_json(facts)


def list_runs(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    wanted: RunFilter = _ANY,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Run]:
    """List a project's runs, newest first."""
    require(tx, actor, "run.read", project_id)
    key = decode_cursor(cursor, str)
    before = str(key[0]) if key else None
    found = store.list_runs(tx, project_id, wanted, before=before, limit=limit + 1)
    return make_page(found, limit, lambda item: [item.id])


def list_steps(tx: Transaction, actor: Actor, project_id: str, run_id: str) -> list[StepRun]:
    """List a run's steps in the order of the pipeline."""
    get_run(tx, actor, project_id, run_id)
    return store.list_steps(tx, run_id)


def count_tasks(
    tx: Transaction, actor: Actor, project_id: str, run_id: str
) -> dict[str, dict[str, int]]:
    """Count a run's tasks by step and state."""
    get_run(tx, actor, project_id, run_id)
    return store.count_tasks(tx, run_id)


def list_tasks(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    run_id: str,
    *,
    step: str | None = None,
    state: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Task]:
    """List a run's tasks: every try of every partition that was begun."""
    get_run(tx, actor, project_id, run_id)
    key = decode_cursor(cursor, int, int, int)
    after = (int(key[0]), int(key[1]), int(key[2])) if key else None
    found = store.list_tasks(tx, run_id, after=after, limit=limit + 1, step=step, state=state)
    page = make_page(found, limit, lambda item: [item[0], item[1].partition, item[1].attempt])
    return page.map(lambda item: item[1])


def cancel_run(tx: Transaction, actor: Actor, project_id: str, run_id: str) -> Run:
    """Cancel a run; its tasks are killed within two seconds. One that has ended stays as it is.

    Raises:
        NotFoundError: the project has no such run.
        ConflictError: it has ended already.
    """
    require(tx, actor, "run.cancel", project_id)
    found = get_run(tx, actor, project_id, run_id)
    if found.state == "cancelling":
        return found
    words = f"Cancelled by {actor.name}."
    at_once = {"state": "cancelled", "reason": words, "ended_at": tx.now}
    if store.move_run(tx, run_id, ("queued",), at_once):  # Nobody drives it yet.
        store.end_steps(tx, run_id, "cancelled")
    elif not store.move_run(tx, run_id, _ALIVE, {"state": "cancelling", "reason": words}):
        raise ConflictError(
            f"The run has ended: it is {found.state}.",
            next_step="There is nothing left to cancel.",
            state=found.state,
        )
    target = f"run/{run_id}"
    before = {"state": found.state}
    note(tx, actor, "run.cancelled", target, project_id=project_id, before=before)
    now = get_run(tx, actor, project_id, run_id)
    tell_state(tx, now, now.state, words)
    return now
