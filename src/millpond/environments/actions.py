"""What a person can do with environments; each function is one transaction's work."""

from collections.abc import Iterable
from dataclasses import replace

from millpond.audit.actions import note
from millpond.environments import store
from millpond.environments.built import check_source_names
from millpond.environments.rules import check_requirements
from millpond.environments.values import Environment, EnvironmentVersion
from millpond.ground.actor import Actor
from millpond.ground.address import check_name, check_new_name, parse_address
from millpond.ground.errors import BusyError, ConflictError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.jobs.actions import put
from millpond.people.actions import require
from millpond.storage.database import Transaction
from millpond.storage.events import publish

BUILD_KIND = "environments.build"
_TRIES = 20


def add_version(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    requirements: str,
    *,
    upgrade: bool = False,
    build_from_source: Iterable[str] = (),
) -> EnvironmentVersion:
    """Ask for an environment of these requirements; a job locks and builds it.

    When the newest version was made of this same text and has not failed, that one comes back,
    marked unchanged, unless ``upgrade`` asks for today's packages. Packages come as wheels, but
    for those that ``build_from_source`` names.

    Raises:
        InvalidError: the name or some lines are not allowed; lists every line that is not.
    """
    require(tx, actor, "environment.write", project_id)
    check_new_name(name)
    check_requirements(requirements)
    names = check_source_names(build_from_source)
    asked = (requirements, names)
    claim = {"id": new_id("env"), "project_id": project_id, "name": name, "newest": 0}
    store.claim_name(tx, {**claim, "created_at": tx.now, "created_by": actor.name})
    for _ in range(_TRIES):
        found = store.find_environment(tx, project_id, name)
        assert found is not None  # noqa: S101 - it was claimed above.
        environment_id, newest = found
        before = store.find_version(tx, project_id, name, None)
        usable = before is not None and not upgrade and before.state != "failed"
        if before and usable and (before.requirements, before.build_from_source) == asked:
            return replace(before, unchanged=True)
        if store.take_number(tx, environment_id, newest):
            break
    else:
        raise BusyError(
            f"Many versions of {name!r} are being added at once.", next_step="Try again."
        )
    version = EnvironmentVersion(
        id=new_id("envv"),
        name=name,
        number=newest + 1,
        state="locking",
        reason="",
        requirements=requirements,
        lock_digest="",
        python_version="",
        packages=(),
        created_at=tx.now,
        created_by=actor.name,
        ready_at=None,
        build_from_source=names,
    )
    _write(tx, actor, project_id, environment_id, version)
    return version


def get_version(tx: Transaction, project_id: str, address: str) -> EnvironmentVersion:
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
        raise NotFoundError(
            f"This project has no environment {wanted.name!r}.",
            next_step="`millpond env list` shows the ones there are.",
        )
    raise NotFoundError(
        f"The environment {wanted.name!r} has no version {wanted.number}.",
        next_step=f"Its newest version is {newest.address}.",
    )


def get_version_by_id(tx: Transaction, version_id: str) -> EnvironmentVersion:
    """Find a version that a run or pipeline has pinned.

    Raises:
        NotFoundError: there is none of this id.
    """
    found = store.find_by_id(tx, version_id)
    if found is None:
        raise NotFoundError(
            f"There is no environment version {version_id!r}.", next_step="Check the id."
        )
    return found[1]


def list_environments(
    tx: Transaction, actor: Actor, project_id: str, *, cursor: str | None = None, limit: int = 50
) -> Page[Environment]:
    """List a project's environments by name."""
    require(tx, actor, "environment.read", project_id)
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_environments(tx, project_id, after, limit + 1)
    return make_page(found, limit, lambda item: [item.name])


def list_versions(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[EnvironmentVersion]:
    """List an environment's versions, newest first."""
    require(tx, actor, "environment.read", project_id)
    check_name(name)
    get_version(tx, project_id, name)
    key = decode_cursor(cursor, int)
    before = int(key[0]) if key else None
    found = store.list_versions(tx, project_id, name, before, limit + 1)
    return make_page(found, limit, lambda item: [item.number])


def lock_text(tx: Transaction, project_id: str, address: str) -> str:
    """Give the lock of a version: a requirements file with hashes and no addresses.

    Raises:
        NotFoundError: the project has no such version.
        ConflictError: it is not locked yet, or never will be.
    """
    version = get_version(tx, project_id, address)
    text = store.read_lock(tx, version.id)
    if not text:
        raise ConflictError(
            f"{version.address} has no lock: it is {version.state}. {version.reason}".strip(),
            next_step="Wait until it is ready."
            if version.state == "locking"
            else "Mend the requirements and make a new version.",
        )
    return text


def lock_of(tx: Transaction, digest: str) -> str:
    """Give the lock of a digest, for a task that was given it; empty when there is none."""
    return store.find_lock(tx, digest)


def _write(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    environment_id: str,
    version: EnvironmentVersion,
) -> None:
    values = dict(vars(version), environment_id=environment_id, lock="")
    del values["name"], values["unchanged"]
    values["packages"], values["build_from_source"] = [], [*version.build_from_source]
    store.add_version(tx, values)
    facts = {"version_id": version.id, "user_id": actor.user_id}
    put(tx, BUILD_KIND, facts, key=f"environment/{version.id}", project_id=project_id)
    note(
        tx,
        actor,
        "environment.version.added",
        f"environment/{version.address}",
        project_id=project_id,
        after={
            "requirements": version.requirements,
            "build_from_source": [*version.build_from_source],
        },
    )
    publish(
        tx,
        project_id=project_id,
        topic=f"environment/{version.name}",
        kind="environment.version.locking",
        facts={"number": version.number, "state": "locking"},
    )
