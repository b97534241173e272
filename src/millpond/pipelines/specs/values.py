"""What only the specifications hand out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogPart:
    """A piece of what compiling a version wrote.

    Attributes:
        text: as the code wrote it; bytes that are no UTF-8 are replaced.
        next: what to ask for next (``after``).
        is_complete: whether nothing more will come.
    """

    text: str
    next: int
    is_complete: bool
