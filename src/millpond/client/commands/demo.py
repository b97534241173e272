"""The command that shows it all: a predictor works through real files, on record."""

import contextlib
import csv
import json
import os
import signal
import sys
import sysconfig
import time
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

import millpond
from millpond.client.call import EXISTING, FOLDER, Call, shared
from millpond.client.client import Client
from millpond.client.commands.audit import verify_online
from millpond.client.commands.following import follow_run
from millpond.client.commands.pipelines import wait_compiled
from millpond.client.commands.runs import check_end
from millpond.client.exits import NotGenuineError
from millpond.client.local import LocalServer, find_server, own_data_folder
from millpond.client.process import ServerProcess, answers, start_server
from millpond.client.screen import counted, seconds_text, size_text, to_json
from millpond.client.walking import LocalFile, find_files
from millpond.environments.values import EnvironmentVersion
from millpond.ground.errors import ConflictError, InvalidError, NotFoundError
from millpond.lake.values import DatasetVersion
from millpond.pipelines.values import PipelineVersion, Run

PROJECT, PIPELINE, DATASET = "demo", "filetypes", "demo-files"
FILES_LEAST, FILES_MOST = 2_000, 3_000
_HUGE_BYTES = 8 << 20
_PACKAGE = Path(millpond.__file__).parent


@click.command()
@click.option("--data", type=FOLDER, help="The demonstration's server; else in your data folder.")
@click.option("--files", type=EXISTING, help="Your own files; else Python's library and Millpond.")
@click.option("--output", type=FOLDER, help="Folder for the outputs; else a new one below --data.")
@click.option("--exit", "ends", is_flag=True, help="End when done, also on a terminal.")
@shared
def demo(
    call: Call, data: Path | None, files: Path | None, output: Path | None, ends: bool
) -> None:
    """Start Millpond, run a predictor over real files, show what it found and check the record.

    The predictor is Google's Magika, a network trained by others that tells what is in a file. The
    second time everything is there already, and only a new run is made.
    """
    folder = (data or own_data_folder(os.environ) / "demo").expanduser().resolve()
    with _server(call, folder) as (server, is_ours):
        call.change_config(data_folders=call.config().with_data_folder(folder).data_folders)
        with Client(server.url, project=PROJECT, data_folder=folder) as client:
            found = _show(call, client, files, output, folder)
        if call.as_json:
            call.say("", {**found, "url": server.url, "data": folder})
        stays = is_ours and not ends and sys.stdout.isatty() and not call.as_json
        if stays or not is_ours:
            _tell_address(call, server)
        else:
            call.report(f"Look again: millpond up --data {folder}")
        if stays:
            call.tell("It stays up; Ctrl-C ends it.")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()


@contextlib.contextmanager
def _server(call: Call, folder: Path) -> Iterator[tuple[LocalServer, bool]]:
    running = find_server(folder)
    if running is not None and answers(running):
        call.tell(f"Using the server that runs on {folder}.")
        yield running, False
        return
    call.tell(f"Starting Millpond on {folder} ...")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = signal.signal(signal.SIGTERM, _interrupt)
    started: ServerProcess | None = None
    try:
        started = start_server(folder, host="127.0.0.1", port=0, log=folder / "server.log")
        yield started.wait_ready(), True
    finally:
        if started is not None:
            started.stop()
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: types.FrameType | None) -> None:
    del number, frame
    raise KeyboardInterrupt


def _show(
    call: Call, client: Client, files: Path | None, output: Path | None, folder: Path
) -> dict[str, object]:
    chosen = find_files(files).files if files else choose_files()
    if not chosen:
        raise InvalidError(
            "There is no file there that could be read.",
            next_step="Choose another folder: --files DIR.",
        )
    _ensure_project(client)
    call.tell(f"Project {PROJECT!r}. Pushing the pipeline {PIPELINE!r} ...")
    with call.progress() as on_progress:
        pushed = client.pipelines.push(find_example(), PIPELINE, on_progress=on_progress)
    version = wait_compiled(call, client, pushed)
    _wait_environment(call, client, version)
    size = sum(one.size for one in chosen)
    call.tell(f"Sending {len(chosen):,} files, {size_text(size)} ...")
    with call.progress() as on_progress:
        dataset = client.datasets.push_files(chosen, DATASET, on_progress=on_progress).version
    call.tell(f"{dataset.address} {'is there already' if dataset.unchanged else 'made'}.")
    started = time.monotonic()
    run = follow_run(call, client, client.runs.start(version.address, {"files": dataset.address}))
    seconds = time.monotonic() - started
    check_end(run)
    target = output or folder / "results" / run.id
    with call.progress() as on_progress:
        client.runs.download(run.id, target, overwrite=True, on_progress=on_progress)
    lines = summarise(target, dataset.file_count, seconds)
    for line in lines:
        call.report(line)
    call.report(f"Outputs:    {target} (open report.html)")
    _tell_verdict(call, client)
    return _facts(run, version, dataset, target, lines)


def _facts(
    run: Run, version: PipelineVersion, dataset: DatasetVersion, target: Path, lines: Sequence[str]
) -> dict[str, object]:
    return {
        "run": run.id,
        "pipeline": version.address,
        "dataset": dataset.address,
        "dataset_digest": dataset.digest,
        "outputs": target,
        "summary": list(lines),
        "log_is_genuine": True,
    }


def _ensure_project(client: Client) -> None:
    with contextlib.suppress(ConflictError):
        client.projects.make(PROJECT, "The demonstration: what is in this machine's files?")


def _wait_environment(
    call: Call, client: Client, version: PipelineVersion
) -> EnvironmentVersion | None:
    if not version.environment:
        return None
    found = client.environments.version(version.environment)
    if found.state in ("locking", "building"):
        call.tell(f"Building the environment {found.address} ...")
        found = client.environments.wait(found.address)
    return found


def find_example() -> Path:
    """Find the example: in the installed package, or in the checkout it was installed from.

    Raises:
        NotFoundError: it is in neither.
    """
    for place in (_PACKAGE / "examples", _PACKAGE.parents[1] / "examples"):
        if (place / PIPELINE / "pipeline.py").is_file():
            return place / PIPELINE
    raise NotFoundError(
        f"The example {PIPELINE!r} did not come with this installation.",
        next_step="Install Millpond from its wheel, or run ./dev demo in a checkout.",
    )


def choose_files(most: int = FILES_MOST) -> list[LocalFile]:
    """Choose real files of this machine: Millpond itself, then Python's library, then packages.

    What is hidden, a cache, unreadable or huge is left out; the choice is the same each time.
    """
    checkout = _PACKAGE.parents[1]
    ours = checkout if (checkout / "pyproject.toml").is_file() else _PACKAGE
    places = [("millpond", ours)]
    places += [(name, Path(sysconfig.get_path(name))) for name in ("stdlib", "platlib", "purelib")]
    chosen: dict[str, LocalFile] = {}
    for name, place in places:
        for path, size in _readable(place):
            if len(chosen) >= most:
                return list(chosen.values())
            raw_path = os.fsencode(f"{name}/{os.path.relpath(path, place)}")
            chosen.setdefault(os.path.realpath(path), LocalFile(path, raw_path, size))
    return list(chosen.values())


def _readable(place: Path) -> Iterator[tuple[str, int]]:
    for folder, inside, names in os.walk(place):
        inside[:] = sorted(
            one
            for one in inside
            if not one.startswith((".", "__pycache__"))
            and one not in ("site-packages", "dist-packages", "node_modules", "dist", "build")
        )
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 - a surrogate-escaped name.
            with contextlib.suppress(OSError):
                if name.startswith(".") or os.path.islink(path) or not os.access(path, os.R_OK):  # noqa: PTH114 - the same.
                    continue
                size = os.stat(path).st_size  # noqa: PTH116 - the same.
                if size <= _HUGE_BYTES and os.path.isfile(path):  # noqa: PTH113 - the same.
                    yield path, size


def summarise(outputs: Path, files: int, seconds: float) -> list[str]:
    """Say in five lines what was found."""
    with (outputs / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    groups = Counter(row.get("group", "") for row in rows)
    types_ = Counter(row.get("type", "") or row.get("label", "") for row in rows)
    size = sum(int(float(row.get("size") or 0)) for row in rows)
    scored = [(float(row["score"]), row.get("path", "")) for row in rows if row.get("score")]
    lowest = min(scored, default=(0.0, "-"))
    return [
        f"Files:      {len(rows):,} of {files:,} predicted, {size_text(size)}",
        f"Groups:     {_listed(groups)}",
        f"Types:      {_listed(types_)}",
        f"Least sure: {lowest[1]} (score {lowest[0]:.3f})",
        f"Time:       {seconds_text(seconds)}, {len(rows) / max(seconds, 1e-9):.0f} files a second",
    ]


def _listed(counts: Counter[str], most: int = 5) -> str:
    named = [f"{name or '(none)'} {count:,}" for name, count in counts.most_common(most)]
    rest = len(counts) - most
    return ", ".join(named) + (f", {rest} more" if rest > 0 else "")


def _tell_verdict(call: Call, client: Client) -> None:
    verdict = verify_online(client, json.dumps(to_json(client.log.key())))
    if not verdict.is_ok:
        raise NotGenuineError(
            f"The log is not genuine: {verdict.kind}: {verdict.message}",
            next_step="Somebody changed the data folder: make a new one with --data DIR.",
        )
    call.report(
        f"Log:        genuine: {counted(verdict.entries, 'entry')},"
        f" {counted(verdict.seals, 'seal')}, checked here"
    )


def _tell_address(call: Call, server: LocalServer) -> None:
    call.report(
        f"Address:    {server.url}; from another terminal: "
        f"millpond run list --project {PROJECT} --url {server.url} (signs in by itself)"
    )
