"""Resolve and build packages from source. A script run in the sandbox: the standard library alone.

``/task/gateway`` holds this file, uv, the order and the socket of the gateway. Whatever a
package's own build back end does, it does here: without a network but the gateway's.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

GATE, OUT = Path("/task/gateway"), Path("/task/out")
_WORK = OUT / ".millpond" / "work"  # On disk, and never published.
_LINES_TOLD = 12
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)


class _FailedError(Exception):
    """A package can't be had; the text is for people."""


def main() -> None:
    """Follow the order; leave the lock, the wheels and a word on how it went."""
    order = json.loads((GATE / "order.json").read_text())
    _WORK.mkdir(parents=True)
    result: dict[str, Any] = {"ok": True, "reason": ""}
    try:
        _follow(order, f"http://127.0.0.1:{_forward()}")
    except _FailedError as fault:
        result = {"ok": False, "reason": str(fault)[-4000:]}
    shutil.rmtree(_WORK, ignore_errors=True)
    (OUT / ".millpond" / "result.json").write_text(json.dumps(result))


def _follow(order: dict[str, Any], gate: str) -> None:
    names = [*order["names"]]
    (_WORK / "requirements.in").write_text(order["requirements"])
    indexes = [f"{gate}/simple/{number}/" for number in range(order["indexes"])]
    variables = {
        **os.environ,
        "UV_INDEX": " ".join(indexes[:-1]),
        "UV_DEFAULT_INDEX": indexes[-1],
        "UV_CACHE_DIR": str(_WORK / "cache"),
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_NO_PROGRESS": "1",
        "UV_CONCURRENT_DOWNLOADS": "8",
        "NO_COLOR": "1",
        "TMPDIR": str(_WORK),
    }
    if order["strategy"]:
        variables["UV_INDEX_STRATEGY"] = order["strategy"]
    lock = OUT / "lock.txt"
    command = ["pip", "compile", "requirements.in", "--universal", "--generate-hashes"]
    command += ["--python-version", order["python"], "--only-binary", ":all:"]
    command += [part for name in names for part in ("--no-binary", name)]
    command += ["--python", sys.executable, "--no-header", "--no-annotate", "--no-sources"]
    command += ["--no-strip-extras", "--quiet", "--output-file", str(lock)]
    code, said = _run(command, variables)
    if code:
        raise _FailedError(said)
    for name, version, digests in _pins(lock.read_text()):
        if name in names:
            source = _fetch(indexes, name, digests)
            _tell(f"Building {name} {version} from {source.name}\n")
            _build(source, names, variables)


def _pins(lock: str) -> list[tuple[str, str, set[str]]]:
    """Give the name, version and hashes of each package of a lock."""
    blocks = lock.replace("\\\n", " ").splitlines()
    found = ((_PIN.match(block), block) for block in blocks)
    return [
        (_normal(pin[1]), pin[2], set(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)))
        for pin, block in found
        if pin
    ]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _fetch(indexes: list[str], name: str, digests: set[str]) -> Path:
    """Bring the source package that the lock's hashes allow."""
    for index in indexes:
        try:
            with urllib.request.urlopen(f"{index}{name}/") as got:  # noqa: S310 - our own gateway.
                files = json.load(got)["files"]
        except OSError:
            continue
        for file in files:
            if not file["filename"].endswith(".whl") and file["hashes"].get("sha256") in digests:
                path = _WORK / Path(str(file["filename"])).name
                address = index.partition("/simple/")[0] + file["url"]
                with urllib.request.urlopen(address) as got, path.open("wb") as out:  # noqa: S310
                    shutil.copyfileobj(got, out)
                if hashlib.sha256(path.read_bytes()).hexdigest() in digests:
                    return path
                raise _FailedError(f"{path.name} is not the file that was locked")
    raise _FailedError(f"There is no source package of {name!r} with a sha256 in the index.")


def _build(source: Path, names: list[str], variables: dict[str, str]) -> None:
    command = ["build", "--wheel", "--no-sources", "--no-build", "--no-create-gitignore"]
    command += [part for name in names for part in ("--no-binary-package", name)]
    command += ["--python", sys.executable, "--out-dir", str(OUT / "wheels"), str(source)]
    code, said = _run(command, variables)
    if code:
        raise _FailedError(f"{source.name} can't be built from source. {said}")


def _run(command: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Run uv, show what it says, and give its exit code and its last lines."""
    last: deque[str] = deque(maxlen=_LINES_TOLD)
    with subprocess.Popen(
        [str(GATE / "uv"), *command],
        cwd=_WORK,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="backslashreplace",
    ) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above.
        for line in process.stdout:
            _tell(line)
            if line.strip():
                last.append(line.rstrip())
    return process.returncode, "\n".join(last)


def _tell(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _forward() -> int:
    """Pass what comes to a port of this sandbox's own on to the gateway; give the port."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve() -> None:
        while True:
            come, _ = listening.accept()
            gate = socket.socket(socket.AF_UNIX)
            try:
                gate.connect(str(GATE / "socket"))
            except OSError:
                come.close()
                continue
            for pair in ((come, gate), (gate, come)):
                threading.Thread(target=_pass, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return int(listening.getsockname()[1])


def _pass(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
