"""Commands for runs: start one (the default), follow it, take what it left."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from millpond.client.call import FOLDER, Call, shared, yes_option
from millpond.client.client import Client
from millpond.client.commands.following import follow_log, follow_run
from millpond.client.commands.lake import show_preview
from millpond.client.commands.node_texts import place_text, text_of_now
from millpond.client.commands.starting import read_limits, read_values, resolve_inputs
from millpond.client.exits import FailedError
from millpond.client.screen import Column, seconds_text, size_text
from millpond.pipelines.values import RUN_ENDED, Run

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_CODE = click.Path(exists=True, file_okay=False, path_type=Path)
_LIMIT_HELP = "Of the program: slots, gpus, seconds, memory_bytes, disk_bytes."
_INPUT_HELP = "Data by name: a dataset's address, or a path that is pushed first."
_LISTED = 50
_MANY_TASKS = 10_000


class StartsByDefault(click.Group):
    """A group whose first word may also be a pipeline: ``run PIPELINE`` is ``run start PIPELINE``.

    A pipeline that is named like one of the commands is started by the long form.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``start`` in front unless the first word is a command or asks for help."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["start", *args]
        return super().parse_args(ctx, args)


@click.group(cls=StartsByDefault)
def run() -> None:
    r"""Run a pipeline or any program; follow it and take its outputs.

    \b
    millpond run PIPELINE --input files=DIR --param min_score=0.5 --wait --output DIR
    millpond run --program main.py --env ENV --input data=DATASET --wait

    `run PIPELINE` is short for `run start PIPELINE`; a pipeline with the name of a command below
    needs the long form.
    """


@run.command("start")
@click.argument("pipeline", required=False)
@click.option("--program", type=_FILE, help="Run this script instead: .py, .R, .sh, or with #!.")
@click.option("--code", type=_CODE, help="Send this whole folder, which holds the program.")
@click.option("--env", "environment", metavar="ADDRESS", help="Environment of the program.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help=_LIMIT_HELP)
@click.option("--network", is_flag=True, help="Let the program use the network.")
@click.option("--secret", "secrets", multiple=True, metavar="NAME", help="Give it this secret.")
@click.option("--input", "-i", "inputs", multiple=True, metavar="NAME=DATA", help=_INPUT_HELP)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option("--params-file", type=_FILE, help="Parameters as a JSON file; --param counts more.")
@click.option("--preset", metavar="NAME", help="Fill what is not given from this preset.")
@click.option("--wait", "-w", is_flag=True, help="Follow the run to its end.")
@click.option("--output", "-o", type=FOLDER, help="Bring the outputs into this folder; waits.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@shared
def start_run(
    call: Call,
    *,
    pipeline: str | None,
    program: Path | None,
    code: Path | None,
    environment: str | None,
    limits: tuple[str, ...],
    network: bool,
    secrets: tuple[str, ...],
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    params_file: Path | None,
    preset: str | None,
    wait: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Start a run of PIPELINE (NAME or NAME@N), or of a --program, on your data.

    An input's value with a slash or a leading dot is a path; any other is a dataset's address, or
    a path when the project has no such dataset.
    """
    if (pipeline is None) == (program is None):
        raise click.UsageError("Name a PIPELINE or a --program, one of them.")
    if pipeline is not None and (code or environment or limits or network or secrets):
        raise click.UsageError(
            "--code, --env, --limit, --network and --secret belong to a --program."
        )
    if program is not None and preset:
        raise click.UsageError("--preset belongs to a PIPELINE.")
    with call.client() as client:
        values = read_values(client, pipeline, parameters, params_file)
        bounds = read_limits(limits) | {"network": network, "secrets": list(secrets)}
        with call.progress() as on_progress:
            data = resolve_inputs(call, client, inputs, on_progress)
        if program is not None:
            started = client.runs.start_program(
                program, data, values, code=code, environment=environment, limits=bounds
            )
        else:
            started = client.runs.start(str(pipeline), data, values, preset=preset)
        if not wait and output is None:
            call.say(
                f"Started {started.id}; `millpond run show {started.id}` tells how far it is.",
                started,
            )
            return
        _finish(call, client, started, output, overwrite=overwrite)


def _finish(
    call: Call, client: Client, started: Run, output: Path | None, *, overwrite: bool
) -> None:
    ended = follow_run(call, client, started)
    if output is not None and ended.output_files:
        with call.progress() as on_progress:
            client.runs.download(ended.id, output, overwrite=overwrite, on_progress=on_progress)
        call.tell(f"Outputs: {output}")
    check_end(ended)
    call.show(ended, _facts(ended))


def check_end(ended: Run) -> None:
    """Fail unless a run succeeded.

    Raises:
        FailedError: it failed or was cancelled.
    """
    if ended.state != "succeeded":
        raise FailedError(
            f"{ended.id} {ended.state if ended.state == 'failed' else 'was ' + ended.state}"
            + (f": {ended.reason}" if ended.reason else "."),
            next_step=f"See `millpond run logs {ended.id}` and `millpond run tasks {ended.id}`.",
            run=ended.id,
            state=ended.state,
        )


@run.command("again")
@click.argument("run_id", metavar="ID")
@click.option("--wait", "-w", is_flag=True, help="Follow the new run to its end.")
@shared
def again(call: Call, run_id: str, *, wait: bool) -> None:
    """Start the run ID once more: the same code on the same data with the same parameters."""
    with call.client() as client:
        started = client.runs.again(run_id)
        if wait:
            _finish(call, client, started, None, overwrite=False)
            return
    call.say(
        f"Started {started.id}; `millpond run show {started.id}` tells how far it is.", started
    )


@run.command("list")
@click.option("--state", "states", multiple=True, help="Only in this state; several count for any.")
@click.option("--pipeline", default="", help="Only of this pipeline: NAME or NAME@N.")
@click.option("--by", default="", metavar="NAME", help="Only started by this user.")
@click.option("--since", type=click.DateTime(), help="Not before this time, of this machine.")
@click.option("--until", type=click.DateTime(), help="Before this time, of this machine.")
@click.option("--search", "text", default="", help="A text in its id, its pipeline or its user.")
@click.option("--most", type=click.IntRange(1), default=_LISTED, show_default=True, help="At most.")
@shared
def list_runs(
    call: Call,
    *,
    states: tuple[str, ...],
    pipeline: str,
    by: str,
    since: datetime | None,
    until: datetime | None,
    text: str,
    most: int,
) -> None:
    """List the project's runs, newest first."""
    with call.client() as client:
        found = client.runs.list(
            state=states,
            pipeline=pipeline,
            by=by,
            since=since and since.astimezone(),
            until=until and until.astimezone(),
            text=text,
            most=most,
        )
    columns: list[Column] = [
        ("ID", lambda one: one.id),
        ("WHAT", lambda one: one.what),
        ("STATE", lambda one: one.state),
        ("DONE", _done_text),
        ("STARTED BY", lambda one: one.created_by),
        ("WHEN", lambda one: one.created_at),
        ("TOOK", _took),
    ]
    call.show_list(found, columns, "There are no such runs.")


@run.command("show")
@click.argument("run_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Follow it to its end.")
@shared
def show_run(call: Call, run_id: str, follow: bool) -> None:
    """Show the run ID with its steps."""
    with call.client() as client:
        found = client.runs.get(run_id)
        if follow and found.state not in RUN_ENDED:
            found = follow_run(call, client, found)
        steps = client.runs.steps(run_id)
    call.show({"run": found, "steps": steps}, _facts(found))
    if not call.as_json:
        columns: list[Column] = [
            ("STEP", lambda one: one.name),
            ("KIND", lambda one: one.kind),
            ("STATE", lambda one: one.state),
            ("PARTITIONS", lambda one: f"{one.partitions_done} of {one.partitions}"),
            ("CPU", lambda one: seconds_text(one.cpu_seconds)),
            ("MEMORY", lambda one: size_text(one.memory_peak_bytes)),
            ("REASON", lambda one: one.reason or "-"),
        ]
        call.show_list(steps, columns, "It has no steps yet.")
    if follow:
        check_end(found)


@run.command("logs")
@click.argument("run_id", metavar="ID")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@click.option("--tail", type=click.IntRange(1), metavar="N", help="Only the last N lines.")
@click.option("--search", metavar="TEXT", help="Only lines that hold this text, in any case.")
@click.option("--step", help="Only of this step.")
@click.option("--partition", type=click.IntRange(0), help="Only of this partition; needs --step.")
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path),
              help="Bring the whole log as this file.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the file if it is there.")
@shared
def show_logs(
    call: Call,
    run_id: str,
    *,
    follow: bool,
    tail: int | None,
    search: str | None,
    step: str | None,
    partition: int | None,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Show what the run ID wrote, task by task; --tail with --follow: running ones side by side."""
    if sum([follow or tail is not None, search is not None, output is not None]) > 1:
        raise click.UsageError("--search, --output, and --tail or --follow exclude each other.")
    with call.client() as client:
        if search is not None:
            _search_log(call, client, run_id, search, step, partition)
        elif output is not None:
            path = client.runs.download_log(
                run_id, output, step=step, partition=partition, overwrite=overwrite
            )
            call.say(f"{path}: {size_text(path.stat().st_size)}.", {"file": path})
        else:
            follow_log(
                call, client, run_id, step=step, partition=partition, tail=tail, follow=follow
            )


def _search_log(
    call: Call, client: Client, run_id: str, text: str, step: str | None, partition: int | None
) -> None:
    found = list(client.runs.search_log(run_id, text, step=step, partition=partition))
    columns: list[Column] = [
        ("STEP", lambda one: one.step),
        ("PARTITION", lambda one: one.partition),
        ("TRY", lambda one: one.attempt),
        ("LINE", lambda one: one.text),
    ]
    call.show_list(found, columns, f"No line holds {text!r}.")


@run.command("cancel")
@click.argument("run_id", metavar="ID")
@yes_option
@shared
def cancel_run(call: Call, run_id: str, yes: bool) -> None:
    """Cancel the run ID; what it did so far stays on record."""
    call.confirm(f"Cancel {run_id}?", yes=yes)
    with call.client() as client:
        found = client.runs.cancel(run_id)
    call.say(f"{found.id} is {found.state}.", found)


@run.command("outputs")
@click.argument("run_id", metavar="ID")
@click.argument("path", required=False)
@click.option("--output", "-o", type=FOLDER, help="Bring them into this folder.")
@click.option("--zip", "zip_file", type=click.Path(dir_okay=False, path_type=Path),
              help="Bring them as this zip file.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace files that are there.")
@shared
def take_outputs(
    call: Call,
    *,
    run_id: str,
    path: str | None,
    output: Path | None,
    zip_file: Path | None,
    overwrite: bool,
) -> None:
    """List the outputs of the run ID, show the beginning of the one at PATH, or bring them here."""
    with call.client() as client:
        if path is not None:
            show_preview(call, client.runs.preview(run_id, path))
            return
        if zip_file is not None:
            client.runs.download_zip(run_id, zip_file, overwrite=overwrite)
            size = zip_file.stat().st_size
            call.say(f"{zip_file}: {size_text(size)}.", {"file": zip_file, "size": size})
        if output is not None:
            with call.progress() as on_progress:
                paths = client.runs.download(
                    run_id, output, overwrite=overwrite, on_progress=on_progress
                )
            call.say(f"{len(paths):,} files in {output}.", {"folder": output, "files": len(paths)})
        if zip_file is not None or output is not None:
            return
        found = client.runs.outputs(run_id)
    columns: list[Column] = [
        ("SIZE", lambda one: size_text(one.size)),
        ("SHA256", lambda one: one.digest[:12]),
        ("PATH", lambda one: one.path),
    ]
    call.show_list(found, columns, "It left no outputs.")


@run.command("tasks")
@click.argument("run_id", metavar="ID")
@click.option("--step", help="Only of this step.")
@click.option("--state", help="Only in this state, for example failed.")
@click.option("--most", type=click.IntRange(1), default=_MANY_TASKS, help="At most.")
@shared
def list_tasks(call: Call, run_id: str, step: str | None, state: str | None, most: int) -> None:
    """List the tasks of the run ID: every try, and what those that run take now."""
    with call.client() as client:
        found = client.runs.tasks(run_id, step=step, state=state, most=most)
    columns: list[Column] = [
        ("STEP", lambda one: one.step),
        ("PARTITION", lambda one: one.partition),
        ("TRY", lambda one: one.attempt),
        ("STATE", lambda one: one.state),
        ("TOOK", lambda one: seconds_text(one.wall_seconds)),
        ("CPU", lambda one: seconds_text(one.cpu_seconds)),
        ("MEMORY", lambda one: size_text(one.memory_peak_bytes)),
        ("NOW", lambda one: text_of_now(one.now)),
        ("NODE", place_text),
        ("REASON", lambda one: one.reason or "-"),
    ]
    call.show_list(found, columns, "It has no tasks yet.")


def _took(one: Run) -> str:
    if one.started_at is None or one.ended_at is None:
        return "-"
    return seconds_text((one.ended_at - one.started_at).total_seconds())


def _done_text(one: Run) -> str:
    done = one.progress
    if done.items_total:
        return f"{done.items_done:,} of {done.items_total:,} {done.unit}"
    return f"{done.steps_done} of {done.steps_total} steps"


def _facts(one: Run) -> list[tuple[str, Any]]:
    inputs = [f"{data.name}={data.dataset}@{data.number}" for data in one.inputs]
    return [
        ("run", one.id),
        ("what", one.what),
        ("state", one.state),
        ("reason", one.reason),
        ("done", _done_text(one)),
        ("waits", one.progress.waits_for),
        ("inputs", inputs),
        ("parameters", [f"{name}={value}" for name, value in one.parameters.items()]),
        ("environment", one.environment or "plain Python"),
        ("isolated", "yes" if one.isolated else "NO: it ran without a sandbox"),
        ("started by", one.created_by),
        ("took", _took(one) if one.ended_at else ""),
        ("CPU", seconds_text(one.cpu_seconds)),
        ("outputs", f"{one.output_files} files, {size_text(one.output_bytes)}"),
    ]
