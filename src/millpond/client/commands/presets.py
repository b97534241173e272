"""Commands for presets."""

from pathlib import Path
from typing import Any

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.commands.starting import read_values, split_pairs
from millpond.client.screen import Column
from millpond.pipelines.presets.values import Preset

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FROM_RUN = "Start from what this run was started with."


@click.group()
def preset() -> None:
    r"""Presets: named fillings of a pipeline's form.

    \b
    millpond preset set PIPELINE night --param min_score=0.2
    millpond run PIPELINE --preset night --input files=DATASET
    """


@preset.command("set")
@click.argument("pipeline")
@click.argument("name")
@click.option(
    "--input", "-i", "inputs", multiple=True, metavar="NAME=DATASET", help="Data by name."
)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="A parameter.")
@click.option("--params-file", type=_FILE, help="Parameters as a JSON file; --param counts more.")
@click.option("--from-run", metavar="ID", help=_FROM_RUN)
@click.option("--description", "-d", default="", help="What it is for, in a sentence.")
@shared
def set_preset(
    call: Call,
    *,
    pipeline: str,
    name: str,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
    params_file: Path | None,
    from_run: str | None,
    description: str,
) -> None:
    """Keep a filling of PIPELINE's form as NAME; what was there under it is replaced.

    It may leave fields open; whoever runs it fills them, or defaults do.
    """
    with call.client() as client:
        data = split_pairs(inputs, "input")
        values = read_values(client, pipeline, parameters, params_file)
        if from_run:
            run = client.runs.get(from_run)
            data = {one.name: f"{one.dataset}@{one.number}" for one in run.inputs} | data
            values = {**run.parameters, **values}
        kept = client.presets.set(pipeline, name, data, values, description=description)
    call.say(f"The preset {kept.name} of {kept.pipeline} is kept.", kept)


@preset.command("list")
@click.argument("pipeline")
@shared
def list_presets(call: Call, pipeline: str) -> None:
    """List the presets of PIPELINE."""
    with call.client() as client:
        found = client.presets.list(pipeline)
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("SETS", lambda one: ", ".join([*one.inputs, *one.parameters]) or "-"),
        ("CHANGED", lambda one: one.changed_at),
        ("BY", lambda one: one.changed_by),
        ("WHAT FOR", lambda one: one.description),
    ]
    nothing = f"There are no presets yet: millpond preset set {pipeline} NAME --param NAME=VALUE."
    call.show_list(found, columns, nothing)


@preset.command("show")
@click.argument("pipeline")
@click.argument("name")
@shared
def show_preset(call: Call, pipeline: str, name: str) -> None:
    """Show the preset NAME of PIPELINE."""
    with call.client() as client:
        found = client.presets.get(pipeline, name)
    call.show(found, _facts(found))


@preset.command("remove")
@click.argument("pipeline")
@click.argument("name")
@yes_option
@shared
def remove_preset(call: Call, pipeline: str, name: str, yes: bool) -> None:
    """Remove the preset NAME of PIPELINE; runs that were started with it stay."""
    call.confirm(f"Remove the preset {name} of {pipeline}?", yes=yes)
    with call.client() as client:
        client.presets.remove(pipeline, name)
    call.say(f"The preset {name} of {pipeline} is removed.", {"removed": name})


def _facts(one: Preset) -> list[tuple[str, Any]]:
    return [
        ("pipeline", one.pipeline),
        ("preset", one.name),
        ("what for", one.description),
        ("inputs", [f"{name}={address}" for name, address in one.inputs.items()]),
        ("parameters", [f"{name}={value}" for name, value in one.parameters.items()]),
        ("changed", one.changed_at),
        ("by", one.changed_by),
    ]
