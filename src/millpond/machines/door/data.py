"""The door's routes for tasks: where their objects lie and go, their logs, their progress, locks.

Who calls is known by the certificate, for what task by a token that the server has signed for that
node alone: a node reads only what a task given to it names, and writes below its prefix.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from millpond.engine.cluster.grants import TaskToken, check_token, may_read, renew_token, sign_read
from millpond.engine.logs import read_progress
from millpond.engine.port import OnProgress
from millpond.engine.values import TaskProgress, log_key
from millpond.ground.clock import Clock
from millpond.ground.errors import (
    Fault,
    InvalidError,
    NotAllowedError,
    NotFoundError,
    TooLargeError,
)
from millpond.machines.door.desks import Desk, NewObject
from millpond.machines.door.logs import LogMeter
from millpond.storage.port import ObjectStore
from millpond.web.connections import peer_in

_KEYS_MOST, _NEWS_MOST = 1000, 1000
_CHUNK_BYTES_MOST = 2 << 20
_DIGEST = r"^[0-9a-f]{64}$"


def _goes_on(_key: str, _node: str) -> bool:
    return False


@dataclass(frozen=True)
class LockText:
    """A lock, for a node to make its environment.

    Attributes:
        text: the lock.
        wheels: keys of the wheels that were built from source for it.
    """

    text: str
    wheels: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataTools:
    """What the routes are given.

    Attributes:
        secret: the server's, that tokens are signed with.
        desk: tells where bytes lie and go.
        objects: where logs are kept.
        clock: tells the time.
        tell: hears of tasks' progress.
        find_lock: gives the lock of a digest; None when there is none.
        runs: tells whether a task is with a node now.
        is_over: tells whether a task was called lost on a node, so that it leaves nothing more.
    """

    secret: bytes
    desk: Desk
    objects: ObjectStore
    clock: Clock
    tell: OnProgress
    find_lock: Callable[[str], LockText | None]
    runs: Callable[[str, str], bool]
    is_over: Callable[[str, str], bool] = _goes_on


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    task: dict[str, Any]


class FindAsked(_Asked):
    """Where do these objects lie?"""

    keys: Annotated[list[tuple[str, str]], Field(max_length=_KEYS_MOST)]


class NewAsked(BaseModel):
    """One new object."""

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(max_length=1000)]
    size: Annotated[int, Field(ge=0, le=2**62)]
    digest: Annotated[str, Field(pattern=_DIGEST)]


class PlaceAsked(_Asked):
    """Where may these objects be left? Several go in one call to each place."""

    objects: Annotated[list[NewAsked], Field(min_length=1, max_length=_KEYS_MOST)]

    def new(self) -> list[NewObject]:
        """Give them as the desk takes them."""
        return [NewObject(each.key, each.size, each.digest) for each in self.objects]


class CommitAsked(PlaceAsked):
    """They were left; here are the receipts of the nodes that hold all of them."""

    receipts: Annotated[list[dict[str, Any]], Field(max_length=10)] = []


class LockAsked(_Asked):
    """What is the lock of this digest?"""

    digest: Annotated[str, Field(pattern=_DIGEST)]
    signature: Annotated[str, Field(max_length=100)]


class TokensAsked(BaseModel):
    """These tokens get old."""

    model_config = ConfigDict(extra="forbid")

    tokens: Annotated[list[dict[str, Any]], Field(max_length=_KEYS_MOST)]


class NewsAsked(_Asked):
    """How far a task is."""

    news: dict[str, Any]


def routes(tools: DataTools) -> APIRouter:
    """Give the routes; they stand below the door's own prefix."""
    router = APIRouter()

    @router.post("/objects/find")
    def find_objects(request: Request, asked: FindAsked) -> dict[str, Any]:
        """Tell where objects lie that a task names."""
        node, token = _check(tools, request, asked.task)
        for key, signature in asked.keys:
            _check_read(tools, token, key, signature)
        found = tools.desk.find([key for key, _ in asked.keys], node)
        return {"found": {key: asdict(each) for key, each in found.items()}}

    @router.post("/objects/place")
    def place_object(request: Request, asked: PlaceAsked) -> Mapping[str, Any]:
        """Tell where a task's outputs go."""
        node = _check_write(tools, request, asked.task, *(each.key for each in asked.objects))
        return tools.desk.place(asked.new(), node)

    @router.post("/objects/commit")
    def commit_object(request: Request, asked: CommitAsked) -> dict[str, Any]:
        """Give a task's outputs their names."""
        node = _check_write(tools, request, asked.task, *(each.key for each in asked.objects))
        tools.desk.commit(asked.new(), asked.receipts, node)
        return {}

    _add_tasks(router, tools)
    _add_logs(router, tools)
    return router


def _add_tasks(router: APIRouter, tools: DataTools) -> None:
    @router.post("/tokens")
    def renew_tokens(request: Request, asked: TokensAsked) -> dict[str, Any]:
        """Make tokens anew that get old, of tasks that the node still has."""
        node, made = node_of(request), {}
        for facts in asked.tokens:
            token = TaskToken.from_json(facts)
            fresh = renew_token(tools.secret, token, node, tools.clock.now())
            if fresh is not None and tools.runs(token.key, node):
                made[token.key] = fresh.to_json()
        return {"tokens": made}

    @router.post("/progress")
    def tell_progress(
        request: Request, asked: Annotated[list[NewsAsked], Body(max_length=_NEWS_MOST)]
    ) -> dict[str, Any]:
        """Take how far tasks say they are."""
        for each in asked:
            _, token = _check(tools, request, each.task)
            tools.tell(read_news(token.key, each.news))
        return {}

    @router.post("/locks")
    def get_lock(request: Request, asked: LockAsked) -> dict[str, Any]:
        """Give the lock of a task's environment, and leave to fetch the wheels built for it."""
        _, token = _check(tools, request, asked.task)
        _check_read(tools, token, f"lock:{asked.digest}", asked.signature)
        found = tools.find_lock(asked.digest)
        if found is None:
            raise NotFoundError(
                "There is no such lock.", next_step="The environment may have been purged."
            )
        signed = {key: sign_read(tools.secret, token.key, key) for key in found.wheels}
        return {"text": found.text, "wheels": signed}


def _add_logs(router: APIRouter, tools: DataTools) -> None:
    meter = LogMeter(tools.objects)

    @router.post("/logs")
    async def append_log(
        request: Request,
        millpond_task: Annotated[str, Header(max_length=10_000)],
        prefix: Annotated[str, Query(max_length=1000)],
        sequence: Annotated[int, Query(ge=0, lt=10**8)],
    ) -> dict[str, Any]:
        """Take a chunk of a task's log; the same one again is fine."""
        facts: Any = None
        with suppress(ValueError):
            facts = json.loads(millpond_task)
        key = log_key(prefix, sequence)
        told = facts if isinstance(facts, dict) else {}
        _check_write(tools, request, told, key, is_log=True)
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > _CHUNK_BYTES_MOST:
                raise TooLargeError(
                    f"A chunk of a log holds at most {_CHUNK_BYTES_MOST} bytes.",
                    next_step="Send smaller ones.",
                )
        most = TaskToken.from_json(told).log_bytes
        await to_thread.run_sync(meter.keep, key, bytes(data), most)
        return {}


def node_of(request: Request) -> str:
    """Give the name of the node that calls, by its certificate.

    Raises:
        NotAllowedError: it is no node.
    """
    peer = peer_in(request.scope)
    if peer is None or peer.role != "node":
        raise NotAllowedError(
            "Only nodes come in by this door.",
            next_step="Use the server's own address; `millpond node join` makes a node.",
        )
    return peer.name


def _check(tools: DataTools, request: Request, task: Mapping[str, Any]) -> tuple[str, TaskToken]:
    node, token = node_of(request), TaskToken.from_json(task)
    check_token(tools.secret, token, node, tools.clock.now())
    return node, token


def _check_write(
    tools: DataTools, request: Request, task: Mapping[str, Any], *keys: str, is_log: bool = False
) -> str:
    node, token = _check(tools, request, task)
    for key in keys:
        if not token.may_write(key, is_log=is_log):
            raise NotAllowedError(
                f"The task {token.key} may not write {key[:200]!r}.",
                next_step="A task writes below its own attempt's prefix only.",
            )
    if not is_log and tools.is_over(token.key, node):
        raise NotAllowedError(
            f"The task {token.key} is over on {node}: it was called lost there.",
            next_step="It runs again elsewhere; nothing more is taken of this try.",
        )
    return node


def _check_read(tools: DataTools, token: TaskToken, key: str, signature: str) -> None:
    if not may_read(tools.secret, token.key, key, signature):
        raise NotAllowedError(
            f"The task {token.key} may not read {key[:200]!r}.",
            next_step="A task reads only what its step names.",
        )


def read_news(key: str, facts: Mapping[str, Any]) -> TaskProgress:
    """Read a task's progress as a node sends it: as little believed as when the task wrote it.

    Raises:
        InvalidError: it is none.
    """
    news = read_progress(key, json.dumps(facts).encode())
    if news is None:
        raise InvalidError(
            "The progress of a task cannot be read.",
            next_step="This is a defect of Millpond; please report it.",
            faults=[Fault("news", "is no progress")],
        )
    return news
