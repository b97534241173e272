"""Live events to browsers and programs, as server-sent events.

However many listen, the database is asked at most every half second for each project and topic
that anybody listens to; a commit in this process wakes its listeners at once.
"""

import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, TypeVar

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from millpond.ground.actor import Actor
from millpond.ground.errors import (
    BusyError,
    Fault,
    InvalidError,
    MillpondError,
    TooManyError,
)
from millpond.storage import events
from millpond.storage.database import Database, Transaction
from millpond.storage.events import LiveEvent
from millpond.web.calls import Call, CallIn, find_caller, needs

Place = tuple[str, str | None]
"""A project, and a topic in it or all of them."""

OpenProject = Callable[[Transaction, Actor, str], str]
"""Give the id of a project of this name if the actor may listen there; else raise."""

T = TypeVar("T")

_POLL_SECONDS = 0.5
_KEEP_ALIVE_SECONDS = 15.0
_KEPT = 1000
_STREAMS_MOST = 30
"""Of one user at a time; each topic that somebody follows costs two questions a second."""
_NUMBER = re.compile(r"\d{1,18}")


class EventHub:
    """Reads events once for all that listen; lives on the server's event loop."""

    def __init__(self, database: Database, *, poll_seconds: float = _POLL_SECONDS) -> None:
        """Read from this database."""
        self._database = database
        self._poll_seconds = poll_seconds
        self._feeds: dict[Place, _Feed] = {}
        self.streams: Counter[str] = Counter()
        """How many streams each user follows."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_closed = False
        database.watchers.append(self._hear)

    def close(self) -> None:
        """End every stream; to be called on the event loop."""
        self.is_closed = True
        with suppress(ValueError):
            self._database.watchers.remove(self._hear)
        for feed in self._feeds.values():
            feed.wake.set()
            feed.news.set()

    async def follow(
        self, project_id: str, topic: str | None, number: int | None
    ) -> AsyncIterator[list[LiveEvent]]:
        """Give the events after a number, or from now on, as they come; never ends by itself.

        An empty list comes now and then, when there is nothing to tell.
        """
        self._loop = asyncio.get_running_loop()
        place = (project_id, topic)
        feed = self._feeds.get(place)
        if feed is None:
            feed = self._feeds[place] = _Feed(self._database, place, self._poll_seconds)
        feed.listeners += 1
        try:
            if number is None:
                number = await run_in_threadpool(self._database.read, events.last_number)
                yield []  # From here on nothing is missed.
            while not self.is_closed:
                news = feed.news
                found = await feed.after(number)
                if found:
                    number = found[-1].number
                    yield found
                    continue
                try:
                    async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
                        await news.wait()
                except TimeoutError:
                    yield []
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                self._feeds.pop(place, None)
                await feed.stop()

    def _hear(self, tx: Transaction) -> None:
        """Wake the feeds that a commit concerns; runs in the thread that committed."""
        told = events.topics_of(tx)
        if told and self._loop is not None:
            with suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._wake, told)

    def _wake(self, told: frozenset[tuple[str, str]]) -> None:
        for project_id, topic in told:
            for place in ((project_id, topic), (project_id, None)):
                if place in self._feeds:
                    self._feeds[place].wake.set()


class _Feed:
    """The events of one place: the newest thousand, read by one task."""

    def __init__(self, database: Database, place: Place, poll_seconds: float) -> None:
        self.listeners = 0
        self.wake = asyncio.Event()
        self.news = asyncio.Event()
        self._database = database
        self._place = place
        self._poll_seconds = poll_seconds
        self._kept: deque[LiveEvent] = deque(maxlen=_KEPT)
        self._whole_from: int | None = None
        """Every event after this number is kept; None before the first look."""
        self._task = asyncio.create_task(self._run())

    async def after(self, number: int) -> list[LiveEvent]:
        """Give what is kept after a number, or ask the database for what is older."""
        if self._whole_from is not None and number >= self._whole_from:
            return [event for event in self._kept if event.number > number]
        return await self._read(number)

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        newest = await self._patiently(events.last_number)
        self._whole_from = newest
        while True:
            found = await self._patiently(partial(self._after, number=newest))
            if found:
                newest = found[-1].number
                overflow = len(self._kept) + len(found) - _KEPT
                if overflow > 0:
                    both = [*self._kept, *found]
                    self._whole_from = both[overflow - 1].number
                self._kept.extend(found)
                heard, self.news = self.news, asyncio.Event()
                heard.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self.wake.wait()
            self.wake.clear()

    async def _patiently(self, action: Callable[[Transaction], T]) -> T:
        """Read; while the database does not answer, wait for it."""
        while True:
            try:
                return await run_in_threadpool(self._database.read, action)
            except MillpondError:
                await asyncio.sleep(self._poll_seconds)

    async def _read(self, number: int) -> list[LiveEvent]:
        return await run_in_threadpool(self._database.read, partial(self._after, number=number))

    def _after(self, tx: Transaction, number: int) -> list[LiveEvent]:
        project_id, topic = self._place
        return events.after(tx, number, project_id=project_id, topic=topic)


def routes(hub: EventHub, open_project: OpenProject) -> APIRouter:
    """Give the route of the live events."""
    router = APIRouter(tags=["events"])

    @router.get(
        "/projects/{project}/events",
        **needs("run.read"),
        summary="Follow live events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    )
    async def follow_events(
        request: Request,
        call: CallIn,
        project: str,
        topic: Annotated[
            str | None, Query(max_length=120, description="For example `run/ID`; all without it.")
        ] = None,
        after: Annotated[
            str | None, Query(max_length=20, description="Begin after this event's number.")
        ] = None,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
    ) -> StreamingResponse:
        """Follow what happens in a project, from now on or from an event that was seen last.

        Each event has its number as id, its kind as name, and JSON data: topic, facts, at.
        """
        number = number_of(last_event_id or after)

        def check(tx: Transaction) -> str:
            return open_project(tx, call.actor, project)

        project_id = await run_in_threadpool(call.read, check)
        user_id = call.actor.user_id
        if hub.streams[user_id] >= _STREAMS_MOST:
            raise TooManyError(
                f"You follow {_STREAMS_MOST} streams of events already.",
                next_step="Close some, or follow all of a project in one, without `topic`.",
                retry_after_seconds=_KEEP_ALIVE_SECONDS,
            )

        async def may_still() -> bool:
            return await may_still_hear(request, call, check)

        stream = _stream(hub, user_id, hub.follow(project_id, topic, number), may_still)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return router


async def _stream(
    hub: EventHub,
    user_id: str,
    follow: AsyncIterator[list[LiveEvent]],
    may_still: Callable[[], Awaitable[bool]],
) -> AsyncIterator[bytes]:
    hub.streams[user_id] += 1
    try:
        yield b"retry: 2000\n\n"
        checked = time.monotonic()
        async for found in follow:
            # Who has lost the right to listen meanwhile hears no more.
            if not found or time.monotonic() - checked >= _KEEP_ALIVE_SECONDS:
                if not await may_still():
                    return
                checked = time.monotonic()
            yield b"".join(map(_line, found)) or b": nothing new\n\n"
    finally:
        hub.streams[user_id] -= 1
        if not hub.streams[user_id]:
            del hub.streams[user_id]


async def may_still_hear(
    request: Request, call: Call, check: Callable[[Transaction], object]
) -> bool:
    """Tell whether a caller may go on listening."""
    try:
        if await find_caller(request) is None:
            return False
        await run_in_threadpool(call.read, check)
    except BusyError:
        return True  # The database is away: nothing is told, and nobody is sent away.
    except MillpondError:
        return False
    return True


def number_of(text: str | None) -> int | None:
    """Read the number of the event that was seen last.

    Raises:
        InvalidError: it is no number.
    """
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidError(
            "This is no number of an event.",
            next_step="Send the id of the event that you saw last, or none to begin now.",
            faults=[Fault("Last-Event-ID", "must be a whole number")],
        )
    return int(text)


def _line(event: LiveEvent) -> bytes:
    data = json.dumps(
        {"topic": event.topic, "facts": event.facts, "at": event.at.isoformat()},
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return f"id: {event.number}\nevent: {event.kind}\ndata: {data}\n\n".encode()
