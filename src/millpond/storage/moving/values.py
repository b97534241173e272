"""What is said of a move."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

KINDS: Mapping[str, str] = {
    "folder": "the folder",
    "s3": "the S3 service",
    "nodes": "the nodes' data disks",
}


@dataclass(frozen=True)
class Home:
    """A store that holds this installation's objects, or held them.

    Attributes:
        kind: as ``objects.kind`` calls it.
        id: lies in the store too, so that it is known again under any address; empty for nodes.
        where: for people: a path, or a service, its bucket and prefix.
    """

    kind: str
    id: str
    where: str

    @property
    def shown(self) -> str:
        """Say it within a sentence."""
        return f"{KINDS[self.kind]} {self.where}".strip()

    def to_json(self) -> dict[str, Any]:
        """Write it for the database."""
        return asdict(self)


@dataclass(frozen=True)
class Damaged:
    """An object that cannot be moved as it should be.

    Attributes:
        key: its key.
        reason: what is wrong with it.
    """

    key: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a move will do, found out before anything is copied.

    Attributes:
        source: where the objects lie now.
        target: where they are to lie.
        objects: how many there are.
        size_bytes: how large they are together.
        left_objects: how many of them are still to be copied.
        left_bytes: how large these are.
        room_bytes: how much the target can take; None where it does not tell.
        is_running: a server uses the objects now.
        stays: what is not copied, because it lies in the right place; empty when all is.
    """

    source: str
    target: str
    objects: int
    size_bytes: int
    left_objects: int
    left_bytes: int
    room_bytes: int | None
    is_running: bool
    stays: str = ""


@dataclass(frozen=True)
class Moved:
    """What a move has done.

    Attributes:
        objects: how many objects the target holds now, each verified.
        size_bytes: how large they are together.
        copied_objects: how many of them this call has copied.
        damaged: those that could not be moved; they stay where they were.
        is_switched: the target is where the objects lie from now on.
        settings: what was done with the settings, in words; empty while nothing was switched.
    """

    objects: int
    size_bytes: int
    copied_objects: int
    damaged: tuple[Damaged, ...]
    is_switched: bool
    settings: str = ""


@dataclass(frozen=True)
class Step:
    """How far a move is.

    Attributes:
        stage: what is being done.
        done: so much of it.
        total: of so much; 0 while that is unknown.
        unit: of what.
    """

    stage: str
    done: int
    total: int
    unit: str


OnStep = Callable[[Step], None]
