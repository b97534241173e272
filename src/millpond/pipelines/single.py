"""Run one task under a job's lease and wait for how it ended."""

import threading

from millpond.engine.values import TaskReport, TaskSpec
from millpond.jobs.port import Lease, LeaseLostError, StoppingError
from millpond.pipelines.port import PipelineTools


def run_task(tools: PipelineTools, lease: Lease, task: TaskSpec, share: str) -> TaskReport:
    """Hand a task over and wait; it is cancelled when the lease is lost or the server stops.

    Raises:
        LeaseLostError: the job has passed to another.
        StoppingError: this server is stopping.
    """
    ended = threading.Event()
    reports: list[TaskReport] = []

    def done(report: TaskReport) -> None:
        reports.append(report)
        ended.set()

    tools.dispatcher.submit(task, share, lambda _: None, done)
    while not ended.wait(tools.pace.tick_seconds):
        if lease.lost() or lease.stopping():
            tools.dispatcher.cancel(task.key)
            raise LeaseLostError if lease.lost() else StoppingError
    return reports[0]
