"""REST of the watch: meters of the machines, and what work has used."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from millpond.watch import actions
from millpond.watch.actions import TasksOn
from millpond.watch.recording import Recorder
from millpond.watch.values import Monitor, Range
from millpond.web.frame import CallIn, needs

NodeName = Annotated[str, Path(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=80)]
Wanted = Annotated[Range, Query(alias="range")]


def routes(recorder: Recorder, tasks_on: TasksOn = actions.nothing_runs) -> APIRouter:
    """Give the routes.

    Args:
        recorder: knows whose meters were refused.
        tasks_on: tells what runs on a machine now.
    """
    router = APIRouter(tags=["monitor"])

    @router.get("/monitor", **needs("monitor.read"))
    def get_monitor(call: CallIn, wanted: Wanted = "1h") -> Monitor:
        """Show the meters of every machine, the host first, in at most 60 steps."""
        return call.read(
            lambda tx: actions.get_monitor(tx, call.actor, wanted, faults=recorder.faults())
        )

    @router.get("/monitor/{node}", **needs("monitor.read"))
    def get_node_monitor(call: CallIn, node: NodeName, wanted: Wanted = "1h") -> Monitor:
        """Show the meters of one machine and what runs there now; `local` is the host."""
        faults = recorder.faults()
        return call.read(
            lambda tx: actions.get_monitor(
                tx, call.actor, wanted, node=node, faults=faults, tasks_on=tasks_on
            )
        )

    return router
