"""What a person can do with uploads; each function is one transaction's work.

The record knows nothing of uploads: until a version names its content, an upload is nobody's but
the sender's, and a folder of files would be thousands of entries. The version's entry tells all.
"""

from datetime import timedelta

from millpond.ground.actor import Actor
from millpond.ground.errors import NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import Page, decode_cursor, make_page
from millpond.lake.uploads import rules, store
from millpond.lake.uploads.values import Part, Upload, UploadAsked
from millpond.lake.values import LakeLimits
from millpond.people.actions import require
from millpond.storage.database import Transaction

_CLEARED_AT_ONCE = 10_000


def make_upload(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    asked: UploadAsked,
    limits: LakeLimits,
    *,
    digest: str | None = None,
) -> Upload:
    """Begin an upload; with a digest, one whose content has come and is stored.

    Raises:
        TooManyError: the person has too many that are not finished.
        TooLargeError: the project has too many bytes that are not finished.
    """
    require(tx, actor, "dataset.write", project_id)
    rules.check_room(*store.count_open(tx, project_id, actor.user_id), asked, limits)
    made = Upload(
        id=new_id("upl"),
        path=asked.path,
        batch=asked.batch,
        size_bytes=asked.size_bytes,
        received_bytes=0 if digest is None else asked.size_bytes,
        digest=digest,
        created_at=tx.now,
        changed_at=tx.now,
        expires_at=tx.now + timedelta(seconds=limits.upload_seconds),
    )
    store.add(tx, {**vars(made), "project_id": project_id, "user_id": actor.user_id})
    return made


def get_upload(tx: Transaction, actor: Actor, project_id: str, upload_id: str) -> Upload:
    """Show an upload of one's own.

    Raises:
        NotFoundError: it never was, has expired, was removed, or is another person's.
    """
    require(tx, actor, "dataset.write", project_id)
    found = store.find(tx, project_id, actor.user_id, upload_id)
    if found is None:
        raise NotFoundError(
            "There is no such upload of yours; it may have expired.",
            next_step="Begin a new one.",
        )
    return found


def list_uploads(
    tx: Transaction,
    actor: Actor,
    project_id: str,
    *,
    is_finished: bool | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[Upload]:
    """List one's own uploads in a project, oldest first."""
    require(tx, actor, "dataset.write", project_id)
    key = decode_cursor(cursor, str)
    found = store.list_own(
        tx,
        project_id,
        actor.user_id,
        is_finished=is_finished,
        after=str(key[0]) if key else "",
        limit=limit + 1,
    )
    return make_page(found, limit, lambda item: [item.id])


def remove_upload(tx: Transaction, actor: Actor, project_id: str, upload_id: str) -> list[Part]:
    """Remove an upload of one's own; give the parts, whose objects are to be deleted.

    Raises:
        NotFoundError: there is no such upload.
    """
    get_upload(tx, actor, project_id, upload_id)
    parts = store.list_parts(tx, upload_id)
    store.remove(tx, upload_id)
    return parts


def remove_unfinished(tx: Transaction, actor: Actor, project_id: str) -> list[str]:
    """Remove all uploads of one's own that are not finished; give the keys of their parts."""
    require(tx, actor, "dataset.write", project_id)
    return store.remove_unfinished(tx, project_id, actor.user_id)


def keep_part(tx: Transaction, upload_id: str, part: Part, limits: LakeLimits) -> bool:
    """Take in a part that is stored; False when another came first or the upload is gone."""
    expires_at = tx.now + timedelta(seconds=limits.upload_seconds)
    return store.add_part(tx, upload_id, part, expires_at)


def list_parts(tx: Transaction, upload_id: str) -> list[Part]:
    """List an upload's parts in their order."""
    return store.list_parts(tx, upload_id)


def settle_upload(tx: Transaction, upload: Upload, digest: str, limits: LakeLimits) -> None:
    """Write that an upload's content is whole and stored."""
    kept_for = timedelta(seconds=limits.upload_seconds)
    store.settle(tx, upload.id, upload.size_bytes, digest, kept_for)


def remove_expired(tx: Transaction) -> list[str]:
    """Forget the uploads whose time is over, some at a time; give the keys of their parts."""
    return store.remove_expired(tx, _CLEARED_AT_ONCE)


def known_keys(tx: Transaction) -> set[str]:
    """Give the keys of all parts that an upload names."""
    return store.list_keys(tx)
