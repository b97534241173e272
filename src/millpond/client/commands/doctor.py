"""The command that looks at this machine."""

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from millpond.client.call import Call, shared
from millpond.client.local import default_data_folder, find_server
from millpond.client.screen import harmless
from millpond.ground.errors import MillpondError
from millpond.ground.findings import Finding, look_at_folder

_PROBE = """
import dataclasses, json
from millpond.engine.probe import probe_machine
print(json.dumps([dataclasses.asdict(one) for one in probe_machine().abilities]))
"""
_PYTHON_LEAST = (3, 11)
_PORT = 8787
_ENGINES = ("podman", "docker", "buildah")


@click.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="The server's data folder."
)
@click.option("--offline", is_flag=True, help="Do not ask the package index.")
@shared
def doctor(call: Call, data: Path | None, offline: bool) -> int:
    """Say what works on this machine and how to mend what doesn't; needs no server."""
    folder = (data or default_data_folder(os.environ)).expanduser()
    found = list(look(call, folder, offline=offline))
    if call.as_json:
        call.say("", found)
    else:
        for one in found:
            write_finding(one)
    return 1 if any(one.state == "fault" for one in found) else 0


def look(call: Call, folder: Path, *, offline: bool) -> Iterator[Finding]:
    """Look at one thing after the other."""
    yield _python()
    yield _uv()
    yield from _sandbox()
    yield _engines()
    yield from look_at_folder(folder)
    yield _port(folder)
    if not offline:
        yield _index()
    yield _guarded("server", lambda: _server(call))
    yield from _secrecy(call, folder)


def _python() -> Finding:
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < _PYTHON_LEAST:
        return Finding("Python", "fault", text, "Install Python 3.11 or newer.")
    if platform.system() != "Linux":
        return Finding(
            "Python", "warning", f"{text}; without isolation", "Run the server on Linux."
        )
    return Finding("Python", "ok", text)


def _uv() -> Finding:
    try:
        import uv

        path = uv.find_uv_bin()
    except (ImportError, FileNotFoundError):
        return Finding(
            "environments", "fault", "uv is missing: nothing can be locked or built",
            "Install Millpond anew; uv comes with it.",
        )  # fmt: skip
    return Finding("environments", "ok", f"uv {importlib.metadata.version('uv')} at {path}")


def _sandbox() -> Iterator[Finding]:
    done = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False, timeout=60
    )
    try:
        abilities: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        yield Finding("sandbox", "fault", f"could not be tried: {last}", "Report this.")
        return
    for one in abilities:
        state = "ok" if one["works"] else "warning"
        yield Finding(one["name"], state, one["reason"], one["next_step"])


def _engines() -> Finding:
    found = [name for name in _ENGINES if shutil.which(name)]
    text = ", ".join(found) if found else "none"
    return Finding("container engines", "ok", f"{text} (none is needed)")


def _port(folder: Path) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", _PORT))
        except OSError:
            if find_server(folder) is not None:
                return Finding("port", "ok", f"{_PORT} is taken, by a server that runs here")
            return Finding(
                "port", "warning", f"{_PORT} is taken by another program",
                "Start the server with --port 0, or another number.",
            )  # fmt: skip
    return Finding("port", "ok", f"{_PORT} is free")


def _index() -> Finding:
    """Ask for one package as the server would, with what this machine is set up for."""
    with tempfile.TemporaryDirectory(prefix="millpond-doctor-") as folder:
        asked = Path(folder) / "asked.txt"
        asked.write_text("iniconfig\n")
        try:
            import uv

            done = subprocess.run(
                [uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-cache", str(asked)],
                capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
        except (ImportError, FileNotFoundError, subprocess.TimeoutExpired) as fault:
            return _no_index(type(fault).__name__)
    if done.returncode:
        return _no_index((done.stderr.strip().splitlines() or ["no answer"])[-1].strip())
    return Finding("package index", "ok", "answers: new environments can be made")


def _no_index(reason: str) -> Finding:
    return Finding(
        "package index", "warning", f"does not answer ({reason}): no new environments",
        "Set up the network or a mirror (UV_INDEX_URL); what is built already goes on working.",
    )  # fmt: skip


def _server(call: Call) -> Finding:
    with call.client() as client:
        health = client.system.health()
        url = client.url
        try:
            facts = client.system.facts()
        except MillpondError as fault:
            return Finding("server", "ok", f"answers at {url} ({fault.message})")
    ours = importlib.metadata.version("millpond")
    theirs = str(facts.get("version", health.get("version", "")))
    if theirs and theirs != ours:
        return Finding(
            "server", "warning", f"{url} is version {theirs}, this client {ours}",
            "Install the same version on both sides.",
        )  # fmt: skip
    return Finding("server", "ok", f"answers at {url}" + (f", version {theirs}" if theirs else ""))


def _secrecy(call: Call, folder: Path) -> Iterator[Finding]:
    """Warn of a server that is spoken to on a network without TLS."""
    here = find_server(folder)
    url = here.url if here else call.url or os.environ.get("MILLPOND_URL") or call.config().url
    host = urlsplit(url).hostname or "localhost"
    if url.startswith("http:") and not (host.startswith("127.") or host in ("localhost", "::1")):
        yield Finding(
            "connections", "warning",
            f"{url} is not encrypted: passwords and data can be read on their way",
            "Start the server without --insecure (server.insecure): then it speaks TLS.",
        )  # fmt: skip


def _guarded(name: str, find: Callable[[], Finding]) -> Finding:
    try:
        return find()
    except MillpondError as fault:
        return Finding(name, "warning", fault.message, fault.next_step)


def write_finding(one: Finding) -> None:
    """Write a finding with its next step."""
    colour = {"ok": "green", "warning": "yellow", "fault": "red"}[one.state]
    click.echo(
        f"{click.style(one.state.ljust(7), fg=colour, bold=True)}  {one.name.ljust(22)}  "
        f"{harmless(one.meaning)}"
    )
    if one.next_step:
        click.echo(f"{' ' * 33}next: {harmless(one.next_step)}")
