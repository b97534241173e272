"""Follow what is done with machines: line after line, to the end."""

import sys
import time
from collections.abc import Sequence

from millpond.client.call import Call
from millpond.client.client import Client
from millpond.client.exits import FailedError
from millpond.machines.values import NodeWork, WorkLine

_COLOURS = {"failed": "red", "warning": "yellow", "done": "green"}


def follow(call: Call, client: Client, started: NodeWork) -> None:
    """Follow a machine's work to its end; Ctrl-C leaves it to the server, and says so.

    Raises:
        FailedError: it was given up or cancelled.
    """
    follow_all(call, client, [started])


def follow_all(call: Call, client: Client, started: Sequence[NodeWork]) -> None:
    """Follow the work on several machines to its end, one after the other; all go on meanwhile.

    Raises:
        FailedError: some were given up or cancelled; the others are done.
    """
    ended = []
    for one in started:
        if len(started) > 1:
            call.tell(f"{one.node}:")
        try:
            ended.append(client.nodes.wait(one, lambda line: _tell(call, line), time.sleep))
        except KeyboardInterrupt:
            call.tell(f"\nIt goes on without you: `millpond node work {one.id}` looks again.")
            raise
    failed = [one for one in ended if one.state != "done"]
    if failed:
        first = failed[0]
        raise FailedError(
            "; ".join(f"{one.node}: {one.reason or one.state}" for one in failed),
            next_step=f"Mend what is said, then `millpond job requeue {first.id}` and `millpond"
            f" node work {first.id}`, or ask for it again.",
        )
    shown_as_json = ended[0] if len(ended) == 1 else ended
    call.say("\n".join(f"{one.node}: done." for one in ended), shown_as_json)


def _tell(call: Call, line: WorkLine) -> None:
    colour = _COLOURS.get(line.state) if sys.stderr.isatty() else None
    call.tell(f" {line.name.ljust(12)} {line.text}", line.state.ljust(8), colour)
