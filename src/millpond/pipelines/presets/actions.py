"""What a person can do with presets: keep, look, remove."""

from collections.abc import Mapping
from typing import Any

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.address import check_name
from millpond.ground.canonical import digest_of
from millpond.ground.errors import BusyError, Fault, InvalidError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.people.actions import require
from millpond.pipelines.pinning import pin_inputs
from millpond.pipelines.presets import store
from millpond.pipelines.presets.values import Preset
from millpond.pipelines.rules import check_inputs, check_parameters
from millpond.pipelines.specs.actions import get_pipeline, get_ready
from millpond.pipelines.values import PipelineSpec
from millpond.storage.database import Transaction
from millpond.storage.events import publish


def set_preset(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    pipeline: str,
    name: str,
    *,
    description: str = "",
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> Preset:
    """Keep a filling of a pipeline's form under a name; what was there before is replaced.

    It need not be whole, but what it says must fit the newest version that is ready.

    Raises:
        InvalidError: the name is not allowed, or something doesn't fit; lists every fault.
        NotFoundError: the project has no such pipeline.
        ConflictError: no version of the pipeline is ready.
    """
    require(tx, actor, "preset.write", project_id)
    check_name(name)
    owner = get_pipeline(tx, actor, project_id, pipeline)
    _, spec = get_ready(tx, project_id, pipeline)
    _check_fit(tx, project_id, spec, inputs, parameters)
    values = {
        "description": description.strip(),
        "parameters": dict(parameters),
        "inputs": dict(inputs),
        "changed_at": tx.now,
        "changed_by": actor.name,
    }
    before = store.find_preset(tx, owner.id, pipeline, name)
    if before is None:
        own = {"id": new_id("pre"), "pipeline_id": owner.id, "name": name}
        made = {"created_at": tx.now, "created_by": actor.name}
        if not store.add_preset(tx, {**own, **values, **made}):
            raise BusyError(f"Somebody is making {name!r} now.", next_step="Try again.")
    else:
        store.change_preset(tx, before.id, values)
    kept = store.find_preset(tx, owner.id, pipeline, name)
    assert kept is not None  # noqa: S101 - it was written above.
    _note(tx, actor, project_id, before, kept)
    return kept


def _check_fit(
    tx: Transaction,
    project_id: str,
    spec: PipelineSpec,
    inputs: Mapping[str, str],
    parameters: Mapping[str, Any],
) -> None:
    found, faults = pin_inputs(tx, project_id, inputs)
    said = {f"inputs.{name}" for name in found} | {f"parameters.{name}" for name in parameters}
    # A preset may leave out what whoever runs it fills in.
    faults += [
        fault
        for fault in [*check_inputs(spec, found), *check_parameters(spec, parameters)]
        if fault.field in said
    ]
    if faults:
        raise _misfit(spec, faults)


def _misfit(spec: PipelineSpec, faults: list[Fault]) -> InvalidError:
    count = "one thing does" if len(faults) == 1 else f"{len(faults)} things do"
    return InvalidError(
        f"The preset was not kept: {count} not fit the form of {spec.name!r}.",
        next_step="Mend what is listed and keep it again.",
        faults=faults,
    )


def get_preset(tx: Transaction, actor: Actor, project_id: str, pipeline: str, name: str) -> Preset:
    """Show a preset.

    Raises:
        NotFoundError: the project has no such pipeline, or that has no such preset.
    """
    require(tx, actor, "preset.read", project_id)
    check_name(name)
    owner = get_pipeline(tx, actor, project_id, pipeline)
    found = store.find_preset(tx, owner.id, pipeline, name)
    if found is None:
        raise NotFoundError(
            f"The pipeline {pipeline!r} has no preset {name!r}.",
            next_step=f"`millpond preset list {pipeline}` shows the ones there are.",
        )
    return found


def list_presets(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    pipeline: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Preset]:
    """List a pipeline's presets by name."""
    require(tx, actor, "preset.read", project_id)
    owner = get_pipeline(tx, actor, project_id, pipeline)
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_presets(tx, owner.id, pipeline, after, limit + 1)
    return make_page(found, limit, lambda item: [item.name])


def remove_preset(tx: Transaction, actor: Actor, project_id: str, pipeline: str, name: str) -> None:
    """Remove a preset; runs that were started with it stay as they are.

    Raises:
        NotFoundError: there is none of this name.
    """
    require(tx, actor, "preset.write", project_id)
    before = get_preset(tx, actor, project_id, pipeline, name)
    store.remove_preset(tx, before.id)
    _note(tx, actor, project_id, before, None)


def _note(
    tx: Transaction, actor: Actor, project_id: str, before: Preset | None, after: Preset | None
) -> None:
    told = after or before
    assert told is not None  # noqa: S101 - one of them is there.
    verb = "removed" if after is None else "made" if before is None else "changed"
    note(
        tx,
        actor,
        f"preset.{verb}",
        f"preset/{told.pipeline}/{told.name}",
        project_id=project_id,
        before=_facts(before),
        after=_facts(after),
    )
    topic = f"pipeline/{told.pipeline}"
    facts = {"preset": told.name}
    publish(tx, project_id=project_id, topic=topic, kind=f"preset.{verb}", facts=facts)


def _facts(one: Preset | None) -> dict[str, Any] | None:
    if one is None:
        return None
    parameters = digest_of(dict(one.parameters))
    return {
        "description": one.description,
        "inputs": dict(one.inputs),
        "parameters": parameters,
    }
