"""The live events of many places in one stream: what the portal's pages follow."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from millpond.ground.errors import Fault, InvalidError, MillpondError, TooManyError
from millpond.storage.database import Transaction
from millpond.storage.events import LiveEvent
from millpond.web.sse import EventHub, OpenProject, may_still_hear, number_of
from millpond.web.visits import Visit, VisitIn, page

_PLACES_MOST = 60
_STREAMS_MOST = 30
_CHECK_SECONDS = 15.0

_Place = tuple[str, str]
"""A project's name and a topic in it."""


def routes(hub: EventHub, open_project: OpenProject) -> APIRouter:
    """Give the route of the pages' live events."""
    router = APIRouter()

    @router.get("/live", **page("profile.read"))
    async def follow_places(
        request: Request,
        visit: VisitIn,
        place: Annotated[list[str], Query(description="`PROJECT TOPIC`, each.")],
        after: Annotated[str | None, Query(max_length=20)] = None,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> StreamingResponse:
        """Follow several topics of several projects; places that one may not see are left out."""
        places = _read(place)
        number = number_of(last_event_id or after)
        seen = await run_in_threadpool(_open, visit, places, open_project)
        user_id = visit.actor.user_id
        if hub.streams[user_id] >= _STREAMS_MOST:
            raise TooManyError(
                "You have very many browsers open.",
                next_step="Close some of their windows.",
                retry_after_seconds=_CHECK_SECONDS,
            )

        async def check() -> bool:
            return await may_still_hear(
                request, visit, lambda tx: _see(tx, visit, seen, open_project)
            )

        stream = _stream(hub, user_id, _Merge(hub, seen, number), check)
        return StreamingResponse(
            stream,
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


class _Merge:
    """Several places' events in one queue."""

    def __init__(
        self, hub: EventHub, places: Sequence[tuple[_Place, str]], number: int | None
    ) -> None:
        self.queue: asyncio.Queue[tuple[str, LiveEvent] | None] = asyncio.Queue(1000)
        self._hub, self._places, self._number = hub, places, number
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for (project, topic), project_id in self._places:
            self._tasks.append(asyncio.create_task(self._follow(project, topic, project_id)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self, project: str, topic: str, project_id: str) -> None:
        async for found in self._hub.follow(project_id, topic, self._number):
            for event in found:
                await self.queue.put((project, event))
        await self.queue.put(None)  # The server ends.


async def _stream(
    hub: EventHub, user_id: str, merge: _Merge, check: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    hub.streams[user_id] += 1
    merge.start()
    loop = asyncio.get_running_loop()
    checked = loop.time()
    try:
        yield b"retry: 2000\n\n"
        while True:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    found = await merge.queue.get()
            except TimeoutError:
                yield b": nothing new\n\n"
            else:
                if found is None:
                    return
                yield _line(*found)
            if loop.time() - checked >= _CHECK_SECONDS:
                if not await check():
                    return
                checked = loop.time()
    finally:
        await merge.stop()
        hub.streams[user_id] -= 1
        if not hub.streams[user_id]:
            del hub.streams[user_id]


def _read(texts: Sequence[str]) -> list[_Place]:
    places = [tuple(text.split(" ", 1)) for text in texts]
    if len(places) > _PLACES_MOST or any(len(place) != 2 for place in places):  # noqa: PLR2004
        raise InvalidError(
            "These are no places to follow.",
            next_step=f"Give at most {_PLACES_MOST}, each as `PROJECT TOPIC`.",
            faults=[Fault("place", "must be a project's name, a space and a topic")],
        )
    return [(place[0], place[1]) for place in places]


def _open(
    visit: Visit, places: Sequence[_Place], open_project: OpenProject
) -> list[tuple[_Place, str]]:
    def see(tx: Transaction) -> list[tuple[_Place, str]]:
        seen = []
        for place in places:
            with suppress(MillpondError):
                seen.append((place, open_project(tx, visit.actor, place[0])))
        return seen

    return visit.read(see)


def _see(
    tx: Transaction,
    visit: Visit,
    places: Sequence[tuple[_Place, str]],
    open_project: OpenProject,
) -> None:
    for (project, _), _ in places:
        open_project(tx, visit.actor, project)


def _line(project: str, event: LiveEvent) -> bytes:
    data = json.dumps(
        {
            "project": project,
            "topic": event.topic,
            "event": event.kind,
            "facts": event.facts,
            "at": event.at.isoformat(),
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return f"id: {event.number}\ndata: {data}\n\n".encode()
