"""Commands for the store of objects, on the server's own machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from millpond.client.call import FOLDER, Call, shared, yes_option
from millpond.client.exits import FailedError
from millpond.client.local import default_data_folder
from millpond.client.progress import OnProgress, Progress
from millpond.client.screen import counted, size_text
from millpond.ground.errors import (
    BusyError,
    ConflictError,
    Fault,
    InvalidError,
    MillpondError,
    NotAllowedError,
    NotFoundError,
)

_KINDS = ("folder", "s3", "nodes")
_FAULTS: dict[int, type[MillpondError]] = {
    fault.status: fault
    for fault in (BusyError, ConflictError, InvalidError, NotAllowedError, NotFoundError)
}
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DAMAGED_SHOWN = 20


@click.group()
def store() -> None:
    """Where the objects lie; on the server's own machine, by the user who runs it."""


@store.command("move")
@click.option("--to", "kind", type=click.Choice(_KINDS), required=True, help="Where to.")
@click.option(
    "--target", type=_FILE,
    help="TOML file whose table [objects] describes the target; else the settings'.",
)  # fmt: skip
@click.option(
    "--source", type=_FILE,
    help="TOML file whose table [objects] describes where they lie, if the settings do not.",
)  # fmt: skip
@click.option("--leave-damaged", is_flag=True, help="Switch although damaged objects stay behind.")
@click.option("--anew", is_flag=True, help="Forget a move to elsewhere that is not finished.")
@click.option("--data", type=FOLDER, help="The server's data folder.")
@click.option("--settings", type=_FILE, help="Its settings file; else DATA/settings.toml.")
@yes_option
@shared
def move(
    call: Call, kind: str, data: Path | None, settings: Path | None, yes: bool, **chosen: Any
) -> None:
    """Move all objects to a folder, to S3 or to the nodes; the old copy stays until remove-old.

    While the server runs, all is copied ahead; stop it and call this again to copy the rest and
    switch. It may be ended at any moment and goes on where it was. Every object is verified by
    its SHA-256 at the target before anything is switched.
    """
    words = ["--to", kind, *_given(data, settings)]
    for name in ("target", "source"):
        words += [f"--{name}", str(chosen[name])] if chosen[name] else []
    words += [f"--{name.replace('_', '-')}" for name in ("leave_damaged", "anew") if chosen[name]]
    _check_asked(call, "All objects would be moved.", yes=yes)

    def agree(plan: dict[str, Any]) -> None:
        _tell_plan(call, plan)
        question = "Copy them ahead?" if plan["is_running"] else "Move them?"
        call.confirm(question, yes=yes)

    with call.progress() as on_progress:
        moved = _run(["move", *words], agree, on_progress)
    _tell_moved(call, moved, kind)


@store.command("remove-old")
@click.option("--data", type=FOLDER, help="The server's data folder.")
@click.option("--settings", type=_FILE, help="Its settings file; else DATA/settings.toml.")
@yes_option
@shared
def remove_old(call: Call, data: Path | None, settings: Path | None, yes: bool) -> None:
    """Remove the copy that a move has left behind; only what the store in use holds."""
    _check_asked(call, "The old copy would be removed.", yes=yes)

    def agree(plan: dict[str, Any]) -> None:
        size = size_text(plan["size_bytes"])
        call.tell(f"{counted(plan['objects'], 'object')}, {size}, lie in {plan['where']} still.")
        call.confirm("Remove them there?", yes=yes)

    with call.progress() as on_progress:
        removed = _run(["remove-old", *_given(data, settings)], agree, on_progress)
    text = f"{counted(removed['objects'], 'object')} removed from {removed['where']}."
    if removed["kept"]:
        text += (
            f" {counted(removed['kept'], 'object')} stay there, because the store in use does not"
            " hold them: they are damaged, or were deleted since."
        )
    if removed["waiting"]:
        text += (
            f" {removed['waiting']:,} cannot be deleted yet, since a node does not answer or took"
            " them within the last hour: call this again later."
        )
    call.say(text, removed)


def _given(data: Path | None, settings: Path | None) -> list[str]:
    folder = (data or default_data_folder(os.environ)).expanduser().absolute()
    return ["--data", str(folder), *(["--settings", str(settings)] if settings else [])]


def _tell_plan(call: Call, plan: dict[str, Any]) -> None:
    total = f"{counted(plan['objects'], 'object')}, {size_text(plan['size_bytes'])}"
    call.tell(f"From  {plan['source']}: {total}")
    room = plan["room_bytes"]
    told = "how much fits there is not known" if room is None else f"{size_text(room)} fit there"
    call.tell(f"to    {plan['target']}: {told}")
    if plan["stays"]:
        call.tell(plan["stays"])
    if plan["left_objects"] < plan["objects"]:
        left = counted(plan["left_objects"], "object")
        call.tell(f"Left to copy: {left}, {size_text(plan['left_bytes'])}.")
    if plan["is_running"]:
        call.tell(
            "The server runs: all that is there is copied ahead, and nothing is switched. The"
            " rest follows when you stop it and call this again."
        )
    else:
        call.tell(
            "The server is stopped, and cannot start before the end. The old copy stays until"
            " `millpond store remove-old`."
        )


def _tell_moved(call: Call, moved: dict[str, Any], kind: str) -> None:
    damaged = moved["damaged"]
    for one in damaged[:_DAMAGED_SHOWN]:
        call.tell(f"damaged: {one['key']}: {one['reason']}")
    if moved["is_switched"]:
        size = size_text(moved["size_bytes"])
        done = f"{counted(moved['objects'], 'object')}, {size}, are moved and verified."
        call.say(f"{done if moved['objects'] else 'All is moved.'} {moved['settings']}", moved)
        call.tell("Start the server. When all is well: `millpond store remove-old`.")
        return
    if damaged:
        raise FailedError(
            f"{counted(len(damaged), 'object')} could not be moved; {moved['objects']:,} are."
            " Nothing was switched, and nothing is lost.",
            next_step="Bring them back from a backup, or let the runs that made them run again, and"
            " call this again; or add --leave-damaged: they stay in the old copy then.",
            damaged=damaged,
        )
    call.say(
        f"{counted(moved['objects'], 'object')} are at the target. Stop the server and call this"
        f" again: `millpond store move --to {kind}` copies what came meanwhile, and switches.",
        moved,
    )


def _check_asked(call: Call, what: str, *, yes: bool) -> None:
    """Refuse early where nobody can be asked."""
    if call.as_json or not sys.stdin.isatty():
        call.confirm(what, yes=yes)


def _run(
    words: Sequence[str], agree: Callable[[dict[str, Any]], None], on_progress: OnProgress
) -> dict[str, Any]:
    """Run the program of the server's side; give what came of it.

    Args:
        words: what it is to do.
        agree: hears what it is about to do, and raises when it is not to be done.
        on_progress: hears how far it is.

    Raises:
        MillpondError: what it says.
    """
    command = [sys.executable, "-m", "millpond.moving", *words]
    last: dict[str, Any] = {}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None  # noqa: S101 - it is a pipe.
        assert process.stdout is not None  # noqa: S101 - it is a pipe.
        for line in process.stdout:
            last = json.loads(line)
            if plan := last.get("plan"):
                agree(plan)  # What it raises closes the pipe, by which the program ends.
                process.stdin.write("go\n")
                process.stdin.flush()
            if step := last.get("step"):
                on_progress(Progress(step["stage"], step["done"], step["total"], step["unit"]))
    if "done" in last:
        done: dict[str, Any] = last["done"]
        return done
    fault = last.get("fault")
    if fault is None:
        raise FailedError(
            f"It was ended before it was done, with code {process.returncode}.",
            next_step="Call it again: it goes on where it was.",
        )
    kind = _FAULTS.get(fault["status"], MillpondError)
    if kind is InvalidError:
        faults = [Fault(one["field"], one["message"]) for one in fault["faults"]]
        raise InvalidError(fault["message"], next_step=fault["next_step"], faults=faults)
    raise kind(fault["message"], next_step=fault["next_step"])
