"""How long work tells how far it is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        stage: what is being done, in words for people, for example ``Reading files``.
        done: how much is done, in ``unit``.
        total: how much there is; 0 while that is unknown.
        unit: what is counted, for example `files`; `bytes` are shown as sizes.
        note: something to show beside it, for example how many tasks are running.
    """

    stage: str
    done: int
    total: int
    unit: str
    note: str = ""


OnProgress = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """Show nothing."""
