"""Panels: what a room shows of its own on pages of rooms below it, which do not know it.

The home page and a project's page lie in a room that knows neither runs nor datasets. ``main``
gives it a function of each room above, and that function gives a panel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.ground.actor import Actor
from millpond.storage.database import Transaction


@dataclass(frozen=True)
class Place:
    """A project that a panel is asked about."""

    id: str
    name: str


@dataclass(frozen=True)
class PanelRow:
    """One thing in a panel.

    Attributes:
        text: its name.
        path: its page.
        project: name of its project.
        state: a word such as ``running``; empty where there is none.
        note: a few words more.
        at: when it last changed.
        done: how far it is, out of ``total``; with a total of 0 no bar is shown.
        total: what ``done`` counts up to.
        topic: of its live events while it goes on; empty where it stands still.
    """

    text: str
    path: str
    project: str = ""
    state: str = ""
    note: str = ""
    at: datetime | None = None
    done: int = 0
    total: int = 0
    topic: str = ""


@dataclass(frozen=True)
class FirstStep:
    """One of the first things that a newcomer does.

    Attributes:
        order: a smaller one comes first.
        text: an order, for example ``Bring in your data``.
        cli: the same on the command line; may hold ``PROJECT``.
        path: where to do it in the browser; may hold ``{project}``; empty where only the command
            line can.
        is_done: whether it was done, by anybody, in one of the places.
    """

    order: int
    text: str
    cli: str
    path: str
    is_done: bool


@dataclass(frozen=True)
class Panel:
    """What a room shows of its own.

    Attributes:
        title: a heading.
        icon: name of its icon.
        rows: newest first.
        more: path of the whole list in one project, which may hold ``{project}``.
        empty: what to say when there are no rows.
        steps: the first steps that this room knows.
        live: ``PROJECT TOPIC`` of the events after which the panel is another one.
    """

    title: str
    icon: str
    rows: Sequence[PanelRow]
    more: str
    empty: str
    steps: Sequence[FirstStep] = ()
    live: Sequence[str] = ()


PanelSource = Callable[[Transaction, Actor, Sequence[Place], int], Panel]
"""Give a room's panel over some projects, with so many rows at most. It shows nothing of a project
in which the actor may not see it."""
