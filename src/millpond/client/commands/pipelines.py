"""Commands for pipelines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from millpond.client.call import Call, shared
from millpond.client.client import Client
from millpond.client.exits import FailedError
from millpond.client.screen import Column, harmless, size_text
from millpond.ground.errors import Fault, InvalidError
from millpond.pipelines.values import PipelineSpec, PipelineVersion, StepSpec


@click.group()
def pipeline() -> None:
    """Push, list and show pipelines: code that others can run on their own data."""


@pipeline.command("push")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", "-n", help="The pipeline's name; else the one in its code.")
@click.option("--wait/--no-wait", default=True, help="Wait until it is compiled; the default.")
@shared
def push_pipeline(call: Call, folder: Path, name: str | None, wait: bool) -> None:
    """Push FOLDER, which holds pipeline.py (and requirements.txt), as a new version."""
    with call.client() as client, call.progress() as on_progress:
        version = client.pipelines.push(folder, name, on_progress=on_progress)
        if wait:
            version = wait_compiled(call, client, version)
    if version.unchanged:
        call.say(f"{version.address} is exactly this code already.", version)
    else:
        call.say(f"{version.address} is {version.state}.", version)


def wait_compiled(call: Call, client: Client, version: PipelineVersion) -> PipelineVersion:
    """Wait until a version is ready, telling what is done; fails with every fault it has."""
    if version.state == "compiling":
        call.tell(f"Compiling {version.address}, in the sandbox ...")
        found = client.pipelines.wait(version.address)
        version = _as_pushed(found, version)
    if version.state == "failed":
        faults = [Fault(_where(one), str(one.get("message", ""))) for one in version.faults]
        if not faults:
            raise FailedError(
                f"{version.address} can't be compiled: {version.reason}",
                next_step="Mend the code or its requirements and push again.",
            )
        raise InvalidError(
            f"{version.address} can't be compiled: {version.reason}",
            next_step="Mend these and push again.",
            faults=faults,
        )
    return version


@pipeline.command("list")
@click.option("--search", "-s", default="", help="Only with this in the name.")
@shared
def list_pipelines(call: Call, search: str) -> None:
    """List the project's pipelines."""
    with call.client() as client:
        found = client.pipelines.list(search=search)
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("NEWEST", lambda one: one.newest),
        ("STATE", lambda one: one.state),
        ("CHANGED", lambda one: one.changed_at),
        ("BY", lambda one: one.created_by),
        ("WHAT", lambda one: one.title),
    ]
    call.show_list(found, columns, "There are no pipelines yet: millpond pipeline push DIR.")


@pipeline.command("show")
@click.argument("address")
@click.option("--versions", is_flag=True, help="List all versions of NAME instead.")
@shared
def show_pipeline(call: Call, address: str, versions: bool) -> None:
    """Show the pipeline at ADDRESS (NAME or NAME@N): what it does, and its form."""
    with call.client() as client:
        if versions:
            found = client.pipelines.versions(address)
            columns: list[Column] = [
                ("VERSION", lambda one: one.address),
                ("STATE", lambda one: one.state),
                ("ENVIRONMENT", lambda one: one.environment or "-"),
                ("MADE", lambda one: one.created_at),
                ("BY", lambda one: one.created_by),
                ("CODE", lambda one: one.code_digest[:12]),
            ]
            call.show_list(found, columns, "It has no version.")
            return
        version = client.pipelines.version(address)
    call.show(version, _facts(version))
    if not call.as_json and version.spec is not None:
        _write_form(version, version.spec)


@pipeline.command("log")
@click.argument("address")
@shared
def show_log(call: Call, address: str) -> None:
    """Show what compiling the version at ADDRESS (NAME or NAME@N) wrote, until it has ended."""
    with call.client() as client:
        found = client.pipelines.wait(address)
        texts, after = [], 0
        while True:
            part = client.pipelines.log(found.address, after)
            texts.append(part.text)
            after = part.next
            if part.is_complete:
                break
    call.say("".join(texts).rstrip("\n") or "It wrote nothing.", {"text": "".join(texts)})


@pipeline.command("code")
@click.argument("address")
@click.option("--zip", "zip_file", type=click.Path(dir_okay=False, path_type=Path), required=True,
              help="Bring it as this zip file.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
@shared
def take_code(call: Call, address: str, zip_file: Path, overwrite: bool) -> None:
    """Bring the code of the version at ADDRESS (NAME or NAME@N)."""
    with call.client() as client:
        client.pipelines.download_code(address, zip_file, overwrite=overwrite)
    size = zip_file.stat().st_size
    call.say(f"{zip_file}: {size_text(size)}.", {"file": zip_file, "size": size})


def _as_pushed(found: PipelineVersion, pushed: PipelineVersion) -> PipelineVersion:
    return PipelineVersion(**{**vars(found), "unchanged": pushed.unchanged})


def _where(fault: Mapping[str, Any]) -> str:
    place = str(fault.get("file", ""))
    return f"{place}:{fault['line']}" if place and fault.get("line") else place


def _facts(version: PipelineVersion) -> list[tuple[str, object]]:
    return [
        ("version", version.address),
        ("what", version.spec.title if version.spec else ""),
        ("state", version.state),
        ("reason", version.reason),
        ("environment", version.environment or "plain Python"),
        ("made", version.created_at),
        ("by", version.created_by),
        ("code", version.code_digest),
        ("lock", version.lock_digest),
    ]


def _write_form(version: PipelineVersion, spec: PipelineSpec) -> None:
    if spec.description:
        click.echo("\n" + harmless(spec.description.strip(), "\n"))
    for head, rows in (
        ("Inputs", [(one.name, _input_text(one)) for one in spec.inputs]),
        ("Parameters", _parameter_rows(spec.parameters)),
        ("Outputs", [(one.name, f"{one.kind}. {one.description}") for one in spec.outputs]),
        ("Steps", [(one.name, _step_text(one)) for one in spec.steps]),
    ):
        if rows:
            click.echo("\n" + click.style(head, bold=True))
            for name, text in rows:
                click.echo(f"  {harmless(name)}: {harmless(text.strip())}")
    inputs = " ".join(f"--input {one.name}=DIR" for one in spec.inputs)
    click.echo(f"\nRun it: millpond run {version.pipeline} {inputs} --wait --output DIR")


def _input_text(one: Any) -> str:
    return f"{one.kind}{'' if one.required else ', may be left out'}. {one.description}"


def _parameter_rows(schema: Mapping[str, Any]) -> list[tuple[str, str]]:
    needed = set(schema.get("required", ()))
    return [
        (name, _parameter_text(facts, is_needed=name in needed))
        for name, facts in schema.get("properties", {}).items()
    ]


def _parameter_text(facts: Mapping[str, Any], *, is_needed: bool) -> str:
    parts = [str(facts.get("type", "any value"))]
    if "enum" in facts:
        parts = ["one of " + ", ".join(str(one) for one in facts["enum"])]
    bounds = {
        "minimum": "at least",
        "exclusiveMinimum": "more than",
        "maximum": "at most",
        "exclusiveMaximum": "less than",
    }
    parts += [f"{words} {facts[key]}" for key, words in bounds.items() if key in facts]
    if "x-unit" in facts:
        parts.append(f"in {facts['x-unit']}")
    parts.append("needed" if is_needed else f"default {facts.get('default')!r}")
    help_ = str(facts.get("description", ""))
    return ", ".join(parts) + (f". {help_}" if help_ else "")


def _step_text(one: StepSpec) -> str:
    parts = [one.kind, f"{one.slots:g} slots", size_text(one.memory_bytes), f"{one.seconds:g} s"]
    if one.gpus:
        parts.insert(2, f"{one.gpus} GPUs" if one.gpus > 1 else "1 GPU")
    if one.network:
        parts.append("may use the network")
    if one.secrets:
        parts.append("is given " + ", ".join(one.secrets))
    return ", ".join(parts) + (f"; after {', '.join(one.needs)}" if one.needs else "")
