"""What a node does that the host does not take: it tries again, less and less often, and says why.

Only a person can mend what it is refused for: another version, a clock that is off, a certificate
that was revoked. So it says so once, and again only when the reason changes.
"""

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from millpond.ground.errors import InvalidError, MillpondError
from millpond.machines.supervising import REFUSED, STOPPED

_WAITS = (2.0, 5.0, 10.0, 20.0, 45.0)
"""The last and the start after it take less than a minute: so soon a machine that was mended is
back."""


@dataclass(frozen=True)
class Refusals:
    """How often in a row the host has refused this node, for one reason.

    Attributes:
        reason: a short name of it, without figures that change by themselves; empty for none.
        count: how often.
    """

    reason: str = ""
    count: int = 0

    @classmethod
    def read(cls, text: str) -> Self:
        """Read what ``words`` gave; anything else is no refusal."""
        count, _, reason = text.partition(":")
        return cls(reason, int(count)) if reason and count.isdecimal() else cls()

    @property
    def words(self) -> str:
        """Give it as one word, for the process that goes on with it."""
        return f"{self.count}:{self.reason}"

    @property
    def is_new(self) -> bool:
        """Tell whether this is the first for its reason, so that it is to be said."""
        return self.count == 1

    @property
    def pause_seconds(self) -> float:
        """Give how long to wait before the next try."""
        return _WAITS[min(self.count, len(_WAITS)) - 1] if self.count else 0.0

    def after(self, fault: MillpondError) -> "Refusals":
        """Give them with one more, or the first for another reason."""
        reason = _reason_of(fault)
        return Refusals(reason, self.count + 1 if reason == self.reason else 1)


def try_again(words: Sequence[str], folder: Path, refusals: Refusals) -> int:
    """Wait a while, then begin anew in the same process, with the code and files of then.

    Its service sees no end of it, so that it starts nothing and writes nothing. Whoever is told to
    stop meanwhile does.

    Args:
        words: of the program, for Python; ``--refused`` comes behind them.
        folder: where it works.
        refusals: so far.

    Returns:
        The exit code, where it does not begin anew.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if stopping.wait(refusals.pause_seconds):
        return STOPPED
    with suppress(OSError):  # It may be a new folder of the old name.
        os.chdir(folder)
    try:
        again = [sys.executable, *words, "--refused", refusals.words]
        os.execv(sys.executable, again)  # noqa: S606 - no shell, and words of our own alone.
    except OSError:  # Python is being changed: the service finds the new one.
        return REFUSED


def _reason_of(fault: MillpondError) -> str:
    if isinstance(fault, InvalidError) and fault.faults:  # By how much a clock is off may change.
        return ",".join(sorted({each.field for each in fault.faults}))
    return hashlib.sha256(f"{fault.code} {fault.message}".encode()).hexdigest()[:16]
