"""Follow a server's live events, from where one left off."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from millpond.client.transport import Transport

QUIET_SECONDS = 40.0
"""Without a word for this long, a connection counts as broken; the server breathes oftener."""


@dataclass(frozen=True)
class Event:
    """One live event.

    Attributes:
        id: what to send back to go on after it; empty for one that has no place.
        kind: for example ``pipeline.run.succeeded``.
        facts: its JSON.
    """

    id: str
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)


def follow(
    transport: Transport, path: str, topic: str, after: str = "", quiet: float = QUIET_SECONDS
) -> Iterator[Event]:
    """Give events as they come, until the server or the network ends the stream.

    Raises:
        BusyError: no connection, or it broke, or nothing came for ``quiet`` seconds.
    """
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
    with transport.stream(path, {"topic": topic}, headers, quiet) as response:
        yield from read_events(response.iter_lines())


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Read the text form of server-sent events; comments, the server's breath, give empty ones."""
    place, kind = "", ""
    data: list[str] = []
    for line in lines:
        if not line:
            if data or kind:
                yield Event(place, kind or "message", _facts("\n".join(data)))
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield Event(place, "")
        elif name == "id":
            place = value
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)


def _facts(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {"text": text}
    return value if isinstance(value, dict) else {"value": value}
