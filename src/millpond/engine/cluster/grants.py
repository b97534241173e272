"""What a node may do for a task: a token for its attempt's prefix, signatures of what it may read.

Signed by the server with a secret that only it holds, so that a node can only read what a task
that was given to it names, and write below that attempt's prefix. Pure; the clock is given.
Source: HMAC with SHA-256, RFC 2104.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from millpond.ground.errors import NotAllowedError

TOKEN_SECONDS = 6 * 3600
RENEW_SECONDS = 2 * 3600
"""A token with less time left is made anew when its node tells how it is."""

LOG_BYTES = 4 << 20
_MOST = 2_000


@dataclass(frozen=True)
class TaskToken:
    """Lets one node act for one task.

    Attributes:
        key: of the task.
        node: the node it was given to; no other may use it.
        prefix: key prefix of what this attempt leaves; its log lies beside it.
        project_id: the project.
        expires_at: Unix time, in whole seconds.
        log_bytes: how long its log may be.
        signature: of all of these, by the server.
    """

    key: str
    node: str
    prefix: str
    project_id: str
    expires_at: int
    signature: str = ""
    log_bytes: int = LOG_BYTES

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> "TaskToken":
        """Read what a node shows; it proves nothing before ``check_token``.

        Raises:
            NotAllowedError: it is no token.
        """
        texts = {name: facts.get(name) for name in ("key", "node", "prefix", "project_id")}
        texts["signature"] = facts.get("signature")
        numbers = {name: facts.get(name) for name in ("expires_at", "log_bytes")}
        is_sound = all(isinstance(each, str) and len(each) <= _MOST for each in texts.values())
        if not is_sound or any(type(each) is not int for each in numbers.values()):
            raise _refused("it cannot be read")
        told: dict[str, Any] = {**texts, **numbers}
        return cls(**told)

    def may_write(self, key: str, *, is_log: bool = False) -> bool:
        """Tell whether an object key lies below the attempt's prefix; or in its log."""
        parts = key.split("/")
        if not key or any(part in ("", ".", "..") for part in parts):
            return False
        return key.startswith(f"{self.prefix}.log/" if is_log else f"{self.prefix}/")


def sign_token(
    secret: bytes,
    *,
    key: str,
    node: str,
    prefix: str,
    project_id: str,
    now: datetime,
    log_bytes: int = LOG_BYTES,
) -> TaskToken:
    """Make the token of a task that goes to a node."""
    expires_at = int((now + timedelta(seconds=TOKEN_SECONDS)).timestamp())
    place = prefix.rstrip("/")
    token = TaskToken(key, node, place, project_id, expires_at, log_bytes=log_bytes)
    return _sign(secret, token)


def check_token(secret: bytes, token: TaskToken, node: str, now: datetime) -> None:
    """Refuse what was not signed by this server, has run out, or was given to another node.

    Raises:
        NotAllowedError: with the reason.
    """
    if not _is_same(_sign(secret, token).signature, token.signature):
        raise _refused("its signature is wrong")
    if token.node != node:
        raise _refused(f"it was given to the node {token.node}, not to {node}")
    if token.expires_at <= now.timestamp():
        told = datetime.fromtimestamp(token.expires_at, UTC).isoformat(timespec="seconds")
        raise _refused(f"it ran out at {told}")


def renew_token(secret: bytes, token: TaskToken, node: str, now: datetime) -> TaskToken | None:
    """Give a fresh token for one that gets old; None when it is good for longer.

    A token that has run out is renewed as well: the caller has seen that the task still runs.

    Raises:
        NotAllowedError: it was not signed by this server, or given to another node.
    """
    check_token(secret, token, node, datetime.fromtimestamp(0, UTC))
    if token.expires_at - now.timestamp() > RENEW_SECONDS:
        return None
    return sign_token(
        secret,
        key=token.key,
        node=token.node,
        prefix=token.prefix,
        project_id=token.project_id,
        now=now,
        log_bytes=token.log_bytes,
    )


def sign_read(secret: bytes, task_key: str, object_key: str) -> str:
    """Sign that a task may read an object; short, since a task may name very many."""
    return _mac(secret, "read", task_key, object_key)[:32]


def may_read(secret: bytes, task_key: str, object_key: str, signature: str) -> bool:
    """Tell whether the server has signed that this task may read this object."""
    return _is_same(sign_read(secret, task_key, object_key), signature)


def _sign(secret: bytes, token: TaskToken) -> TaskToken:
    texts = (token.key, token.node, token.prefix, token.project_id)
    numbers = (str(token.expires_at), str(token.log_bytes))
    return replace(token, signature=_mac(secret, "task", *texts, *numbers))


def _is_same(wanted: str, shown: str) -> bool:
    return hmac.compare_digest(wanted.encode(), shown.encode(errors="replace"))


def _mac(secret: bytes, *parts: str) -> str:
    return hmac.new(secret, json.dumps(parts).encode(), hashlib.sha256).hexdigest()


def _refused(reason: str) -> NotAllowedError:
    return NotAllowedError(
        f"The token of the task is refused: {reason}.",
        next_step="The task is started anew by itself; if this returns, look at the node's clock.",
    )
