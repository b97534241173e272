"""Follow a run: a bar on a terminal, lines elsewhere, its log."""

import sys
from collections.abc import Iterator

import click

from millpond.client.call import Call
from millpond.client.client import Client
from millpond.client.progress import Progress
from millpond.client.run_logs import LINES_MOST
from millpond.client.screen import harmless
from millpond.pipelines.runs.logs.values import LogPart
from millpond.pipelines.values import Run


def follow_run(call: Call, client: Client, started: Run) -> Run:
    """Follow a run to its end; Ctrl-C leaves it to the server, and says so."""
    states: list[str] = []
    is_live = sys.stderr.isatty() and not call.as_json

    try:
        with call.progress() as on_progress:

            def tell(run: Run) -> None:
                if not is_live and states[-1:] != [run.state]:
                    call.tell(f"{run.id}: {run.state}")
                states.append(run.state)
                on_progress(progress_of(run))

            return client.runs.wait(started.id, tell)
    except KeyboardInterrupt:
        call.tell(
            f"\n{started.id} goes on without you: `millpond run show {started.id} --follow` looks "
            f"at it again, `millpond run cancel {started.id}` ends it."
        )
        raise


def progress_of(run: Run) -> Progress:
    """Say how far a run is, in its own unit."""
    done = run.progress
    note = f"step {min(done.steps_done + 1, done.steps_total)} of {done.steps_total}"
    if run.state != "running":
        note = run.state
    elif done.waits_for:
        note = f"waits: {done.waits_for}"
    if done.items_total:
        return Progress("Running", done.items_done, done.items_total, done.unit, note)
    return Progress("Running", done.steps_done, done.steps_total, "steps", note)


def follow_log(
    call: Call,
    client: Client,
    run_id: str,
    *,
    step: str | None,
    partition: int | None,
    tail: int | None,
    follow: bool,
) -> None:
    """Write a run's log as it is, or its last lines, and then as it grows."""
    texts: list[str] = []
    is_complete = False
    for part in _parts(client, run_id, step, partition, tail, follow=follow):
        is_complete = part.is_complete
        if call.as_json:
            texts.append(part.text)
        else:
            # Steps may write anything; on a terminal nothing of it may move the cursor.
            is_shown = sys.stdout.isatty()
            click.echo(harmless(part.text, "\n\t") if is_shown else part.text, nl=False)
    if call.as_json:
        call.say("", {"log": "".join(texts), "is_complete": is_complete})


def _parts(
    client: Client,
    run_id: str,
    step: str | None,
    partition: int | None,
    tail: int | None,
    *,
    follow: bool,
) -> Iterator[LogPart]:
    after: str | None = None
    if tail is not None and follow:
        last = client.runs.log(
            run_id, step=step, partition=partition, beside=True, lines=min(tail, LINES_MOST)
        )
        if not last.is_complete:
            yield last
            yield from client.runs.follow_log(
                run_id, step=step, partition=partition, after=last.next, beside=True
            )
            return
    if tail is not None:
        last = client.runs.tail_log(run_id, tail, step=step, partition=partition)
        yield last
        return
    if follow:
        yield from client.runs.follow_log(run_id, step=step, partition=partition, after=after)
        return
    while True:
        part = client.runs.log(run_id, step=step, partition=partition, after=after)
        yield part
        if part.is_complete or not part.text:
            return
        after = part.next
