"""Read what tasks have used."""

from datetime import datetime

from millpond.ground.actor import Actor
from millpond.people.actions import require
from millpond.pipelines.runs.actions import get_run
from millpond.pipelines.usage import store
from millpond.pipelines.usage.values import DayUse, TaskSpan
from millpond.pipelines.values import Run
from millpond.storage.database import Transaction


def list_use(
    tx: Transaction, actor: Actor, project_id: str | None, since: datetime, until: datetime
) -> list[DayUse]:
    """Give what ended tasks used, by day, project, person, pipeline and node.

    Args:
        tx: the transaction.
        actor: who asks; a member for a project, an administrator for the whole site.
        project_id: the project; None for all.
        since: tasks that ended then or later.
        until: and before this.
    """
    if project_id is None:
        require(tx, actor, "monitor.read")
    else:
        require(tx, actor, "usage.read", project_id)
    return store.sum_by_day(tx, project_id, since, until)


def list_spans(
    tx: Transaction, actor: Actor, project_id: str, run_id: str
) -> tuple[Run, list[TaskSpan]]:
    """Give a run, and when and where each of its tasks ran.

    Raises:
        NotFoundError: there is no such run in this project.
    """
    found = get_run(tx, actor, project_id, run_id)
    return found, store.list_spans(tx, run_id)
