"""What a person can do with datasets; each function is one transaction's work."""

from dataclasses import replace

from millpond.audit.actions import note
from millpond.ground.actor import Actor
from millpond.ground.address import check_name, check_new_name, parse_address
from millpond.ground.errors import BusyError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.lake import store
from millpond.lake.values import Dataset, DatasetVersion, Kind, Manifest
from millpond.people.actions import require
from millpond.storage.database import Transaction
from millpond.storage.events import publish

_TRIES = 20


def list_datasets(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    *,
    search: str = "",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Dataset]:
    """List a project's datasets by name; with a search, those whose names hold that text."""
    require(tx, actor, "dataset.read", project_id)
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_datasets(tx, project_id, after, limit + 1, search=search.strip().lower())
    return make_page(found, limit, lambda item: [item.name])


def get_dataset(tx: Transaction, actor: Actor, project_id: str, name: str) -> Dataset:
    """Show one dataset.

    Raises:
        NotFoundError: the project has none of this name, or it is deleted.
    """
    require(tx, actor, "dataset.read", project_id)
    check_name(name)
    found = store.list_datasets(tx, project_id, "", 1, name)
    if not found:
        raise _no_dataset(name)
    return found[0]


def list_versions(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[DatasetVersion]:
    """List a dataset's versions, newest first."""
    get_dataset(tx, actor, project_id, name)
    key = decode_cursor(cursor, int)
    before = int(key[0]) if key else None
    found = store.list_versions(tx, project_id, name, before, limit + 1)
    return make_page(found, limit, lambda item: [item.number])


def get_version(tx: Transaction, project_id: str, address: str) -> DatasetVersion:
    """Find a version by ``NAME`` (the newest) or ``NAME@N``; the caller has asked for leave.

    Raises:
        InvalidError: this is no address.
        NotFoundError: the project has no such version, or it is deleted.
    """
    wanted = parse_address(address)
    version = store.find_version(tx, project_id, wanted.name, wanted.number)
    if version is not None:
        return version
    newest = store.find_version(tx, project_id, wanted.name, None)
    if newest is None:
        raise _no_dataset(wanted.name)
    raise NotFoundError(
        f"The dataset {wanted.name!r} has no version {wanted.number}.",
        next_step=f"Its newest version is {newest.address}.",
    )


def add_version(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    name: str,
    manifest: Manifest,
    manifest_key: str,
    origin: str,
    kind: Kind = "files",
) -> DatasetVersion:
    """Add a version of a manifest that is written already; the dataset is made when missing.

    When the newest version holds this same content, that one comes back, marked unchanged.
    A deleted dataset comes back with this version alone; numbers go on where they were.

    Raises:
        InvalidError: the name is not allowed.
    """
    require(tx, actor, "dataset.write", project_id)
    check_new_name(name)
    digest = manifest_key.rpartition("/")[2]
    dataset_id, number, before = _take_number(tx, actor, project_id, name, (digest, kind))
    if before is not None and not number:
        return replace(before, unchanged=True)
    version = DatasetVersion(
        id=new_id("dsv"),
        dataset=name,
        number=number,
        digest=digest,
        kind=kind,
        file_count=manifest.file_count,
        size_bytes=manifest.size_bytes,
        manifest_key=manifest_key,
        origin=origin,
        created_at=tx.now,
        created_by=actor.name,
    )
    _write(tx, project_id, dataset_id, version)
    note(
        tx,
        actor,
        "dataset.version.added",
        f"dataset/{version.address}",
        project_id=project_id,
        before=None if before is None else {"digest": before.digest, "number": before.number},
        after={"digest": digest, "files": manifest.file_count, "origin": origin, "kind": kind},
    )
    return version


def hide_dataset(tx: Transaction, actor: Actor, project_id: str, name: str) -> None:
    """Delete a dataset: it is hidden, its bytes stay until a purge, runs keep what they pinned.

    Raises:
        NotFoundError: the project has none of this name, or it is deleted already.
    """
    require(tx, actor, "dataset.write", project_id)
    check_name(name)
    shown = store.list_datasets(tx, project_id, "", 1, name)
    if not shown:
        raise _no_dataset(name)
    store.hide(tx, shown[0].id, tx.now)
    note(
        tx,
        actor,
        "dataset.hidden",
        f"dataset/{name}",
        project_id=project_id,
        before={"newest": shown[0].newest, "digest": shown[0].digest},
    )
    publish(tx, project_id=project_id, topic=f"dataset/{name}", kind="dataset.hidden")


def _take_number(
    tx: Transaction, actor: Actor, project_id: str, name: str, content: tuple[str, Kind]
) -> tuple[str, int, DatasetVersion | None]:
    """Give the dataset's id, the new version's number and the version before it.

    The number is 0 when the version before holds this same (digest, kind).
    """
    claim = {"id": new_id("ds"), "project_id": project_id, "name": name, "newest": 0}
    store.claim_name(tx, {**claim, "created_at": tx.now, "created_by": actor.name})
    for _ in range(_TRIES):
        found = store.find_dataset(tx, project_id, name)
        assert found is not None  # noqa: S101 - it was claimed above.
        dataset_id, newest = found
        before = store.find_version(tx, project_id, name, None)
        if before is not None and (before.digest, before.kind) == content:
            return dataset_id, 0, before
        if store.take_number(tx, dataset_id, newest):
            return dataset_id, newest + 1, before
    raise BusyError(f"Many versions of {name!r} are being added at once.", next_step="Try again.")


def _write(tx: Transaction, project_id: str, dataset_id: str, version: DatasetVersion) -> None:
    values = dict(vars(version), dataset_id=dataset_id)
    del values["dataset"], values["unchanged"]
    store.add_version(tx, values)
    publish(
        tx,
        project_id=project_id,
        topic=f"dataset/{version.dataset}",
        kind="dataset.version.added",
        facts={"number": version.number, "files": version.file_count},
    )


def _no_dataset(name: str) -> NotFoundError:
    return NotFoundError(
        f"This project has no dataset {name!r}.",
        next_step="`millpond dataset list` shows the ones there are.",
    )
