"""What a person can do with pipelines: push a version, look at them."""

from dataclasses import replace

from millpond.audit.actions import note
from millpond.environments.actions import add_version as add_environment
from millpond.ground.actor import Actor
from millpond.ground.address import check_name, check_new_name, parse_address
from millpond.ground.errors import BusyError, ConflictError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.jobs.actions import put
from millpond.people.actions import require
from millpond.pipelines.specs import store
from millpond.pipelines.specs.rules import environment_name
from millpond.pipelines.values import Pipeline, PipelineSpec, PipelineVersion
from millpond.storage.database import Transaction
from millpond.storage.events import publish

COMPILE_KIND = "pipelines.compile"
_TRIES = 20


def push_version(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    *,
    manifest_key: str,
    function: str = "",
    requirements: str = "",
) -> PipelineVersion:
    """Add a version of code whose manifest is written; a job locks and compiles it.

    When the newest version has this same code and has not failed, that one comes back, marked
    unchanged.

    Args:
        tx: the transaction.
        actor: who pushes.
        project_id: the project.
        name: the pipeline's name; it is made when missing.
        manifest_key: of the code's files; its last part is the code's digest.
        function: which function of ``pipeline.py``; empty for the only one.
        requirements: text of ``requirements.txt``; empty for none.

    Raises:
        InvalidError: the name, or lines of the requirements, are not allowed.
    """
    require(tx, actor, "pipeline.write", project_id)
    check_new_name(name)
    digest = manifest_key.rpartition("/")[2]
    pipeline_id, newest, before = _claim_number(tx, actor, project_id, name, digest)
    if before is not None:
        return replace(before, unchanged=True)
    environment = ""
    if requirements.strip():
        environment = add_environment(
            tx, actor, project_id, environment_name(name), requirements
        ).address
    version = PipelineVersion(
        id=new_id("plv"),
        pipeline=name,
        number=newest + 1,
        state="compiling",
        reason="",
        faults=(),
        spec=None,
        spec_digest="",
        code_digest=digest,
        manifest_key=manifest_key,
        environment=environment,
        lock_digest="",
        no_fork=False,
        created_at=tx.now,
        created_by=actor.name,
    )
    _write(tx, actor, project_id, pipeline_id, version, function)
    return version


def _claim_number(
    tx: Transaction, actor: Actor, project_id: str, name: str, digest: str
) -> tuple[str, int, PipelineVersion | None]:
    """Take the next number of a pipeline; or give the newest version when it has this code."""
    claim = {"id": new_id("pl"), "project_id": project_id, "name": name, "newest": 0}
    store.claim_name(tx, {**claim, "created_at": tx.now, "created_by": actor.name})
    for _ in range(_TRIES):
        found = store.find_pipeline(tx, project_id, name)
        assert found is not None  # noqa: S101 - it was claimed above.
        before = store.find_version(tx, project_id, name, None)
        if before is not None and before.code_digest == digest and before.state != "failed":
            return *found, before
        if store.take_number(tx, *found):
            return *found, None
    raise BusyError(f"Many versions of {name!r} are being added at once.", next_step="Try again.")


def _write(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    pipeline_id: str,
    version: PipelineVersion,
    function: str,
) -> None:
    values = dict(vars(version), pipeline_id=pipeline_id, function=function, changed_at=tx.now)
    del values["pipeline"], values["unchanged"]
    store.add_version(tx, {**values, "faults": []})
    put(
        tx,
        COMPILE_KIND,
        {"version_id": version.id, "user_id": actor.user_id},
        key=version.id,
        project_id=project_id,
        priority=10,
    )
    target = f"pipeline/{version.address}"
    after = {"code_digest": version.code_digest, "environment": version.environment}
    note(tx, actor, "pipeline.version.pushed", target, project_id=project_id, after=after)
    publish(
        tx,
        project_id=project_id,
        topic=f"pipeline/{version.pipeline}",
        kind="pipeline.version.compiling",
        facts={"number": version.number},
    )


def get_version(tx: Transaction, project_id: str, address: str) -> PipelineVersion:
    """Find a version by ``NAME`` (the newest) or ``NAME@N``; the caller has asked for leave.

    Raises:
        InvalidError: this is no address.
        NotFoundError: the project has no such version.
    """
    wanted = parse_address(address)
    version = store.find_version(tx, project_id, wanted.name, wanted.number)
    if version is not None:
        return version
    newest = store.find_version(tx, project_id, wanted.name, None)
    if newest is None:
        raise _no_pipeline(wanted.name)
    raise NotFoundError(
        f"The pipeline {wanted.name!r} has no version {wanted.number}.",
        next_step=f"Its newest version is {newest.address}.",
    )


def get_ready(
    tx: Transaction, project_id: str, name: str, number: int | None = None
) -> tuple[PipelineVersion, PipelineSpec]:
    """Find a version that can run, the newest of them without a number, with its specification.

    The caller has asked for leave.

    Raises:
        NotFoundError: the project has no such version.
        ConflictError: it is not ready, or none is.
    """
    version = None if number else store.find_newest_ready(tx, project_id, name)
    version = version or get_version(tx, project_id, f"{name}@{number}" if number else name)
    if version.spec is None:
        told = "is still being compiled" if version.state == "compiling" else "can't run"
        raise ConflictError(
            f"{version.address} {told}. {version.reason}".strip(),
            next_step="Wait until it is ready."
            if version.state == "compiling"
            else "Mend the code and push it again.",
            state=version.state,
        )
    return version, version.spec


def get_version_by_id(tx: Transaction, version_id: str) -> PipelineVersion:
    """Find a version that a run has pinned.

    Raises:
        NotFoundError: there is none of this id.
    """
    found = store.find_by_id(tx, version_id)
    if found is None:
        raise NotFoundError(
            f"There is no pipeline version {version_id!r}.", next_step="Check the id."
        )
    return found[1]


def forbid_fork(tx: Transaction, version_id: str) -> None:
    """Note that a task of a version hung or crashed when forked and not when run alone."""
    store.forbid_fork(tx, version_id)


def get_pipeline(tx: Transaction, actor: Actor, project_id: str, name: str) -> Pipeline:
    """Show a pipeline with what its newest version says of itself.

    Raises:
        NotFoundError: the project has none of this name.
    """
    require(tx, actor, "pipeline.read", project_id)
    check_name(name)
    found = store.list_pipelines(tx, project_id, "", 1, name)
    if not found:
        raise _no_pipeline(name)
    return found[0]


def list_pipelines(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    *,
    search: str = "",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Pipeline]:
    """List a project's pipelines by name; ``search`` is a part of the name."""
    require(tx, actor, "pipeline.read", project_id)
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_pipelines(tx, project_id, after, limit + 1, search=search)
    return make_page(found, limit, lambda item: [item.name])


def list_versions(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[PipelineVersion]:
    """List a pipeline's versions, newest first."""
    get_pipeline(tx, actor, project_id, name)
    key = decode_cursor(cursor, int)
    before = int(key[0]) if key else None
    found = store.list_versions(tx, project_id, name, before, limit + 1)
    return make_page(found, limit, lambda item: [item.number])


def _no_pipeline(name: str) -> NotFoundError:
    return NotFoundError(
        f"This project has no pipeline {name!r}.",
        next_step="`millpond pipeline list` shows the ones there are.",
    )
