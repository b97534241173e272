"""Fetch the wheels of a lock for another machine or Python, as the host's index has them."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from uv import find_uv_bin

from millpond.deploy.locks import name_of, read_lock
from millpond.deploy.target import digest_of
from millpond.ground.errors import ConflictError

_GLIBC = (17, 24, 26, 27, 28, 31, 34)  # Bookworm and Ubuntu 22.04 have 2.35 and newer.
_SECONDS = 1800
_SHOWN = 600


def choose(lock: str, machine: str, python: str) -> list[str]:
    """Give the names of a lock's requirements that hold for a machine and Python.

    uv weighs the conditions, since it knows every one that a package may write.
    """
    with tempfile.TemporaryDirectory(prefix="mp-lock-") as folder:
        asked = Path(folder) / "lock.txt"
        asked.write_text(lock)
        done = _run(
            [find_uv_bin(), "pip", "compile", "--quiet", "--no-deps", "--no-build", "--no-header",
             "--no-annotate", "--python-version", python,
             "--python-platform", f"{machine}-manylinux_2_28", str(asked)],
        )  # fmt: skip
    if done.returncode:
        raise _fault("The package index does not answer", done.stderr)
    return [name_of(line) for line in done.stdout.splitlines() if name_of(line)]


def fetch(lock: str, machine: str, python: str, folder: Path) -> dict[str, str]:
    """Fetch the wheels of a lock without conditions into a folder.

    Returns:
        Their SHA-256 by name; pip has compared each with the lock.

    Raises:
        ConflictError: the index does not answer, or has no such wheel for the machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder.parent) as making:
        new, asked = Path(making) / "wheels", Path(making) / "lock.txt"
        asked.write_text(lock)
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC]
        words = [f"--platform={each}" for each in (*platforms, f"manylinux2014_{machine}")]
        done = _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
             "--no-input", "--no-deps", "--only-binary", ":all:", "--require-hashes",
             "--python-version", python, "--implementation", "cp", *words,
             "--requirement", str(asked), "--dest", str(new)],
            {"PYTHONPATH": str(_pip(Path(making)))},
        )  # fmt: skip
        if done.returncode:
            what = f"Not every package could be fetched for {machine} with Python {python}"
            raise _fault(what, done.stderr)
        found = sorted(new.iterdir())
        if len(found) != len(read_lock(lock)):
            raise _fault("The package index gave fewer files than the lock names", done.stderr)
        for path in found:
            shutil.move(path, folder / path.name)
    return {path.name: digest_of(folder / path.name) for path in found}


def _pip(folder: Path) -> Path:
    """Give a folder that holds pip: uv makes environments but keeps no wheels."""
    done = _run(
        [find_uv_bin(), "pip", "install", "--quiet", "--python", sys.executable, "--require-hashes",
         "--target", str(folder / "pip"), "-r", str(Path(__file__).with_name("pip.txt"))],
    )  # fmt: skip
    if done.returncode:
        raise _fault("The package index does not answer", done.stderr)
    return folder / "pip"


def _run(
    command: list[str], more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # A service may not write where an account keeps its caches.
    variables = {**os.environ, "UV_NO_CACHE": "1", "PIP_NO_CACHE_DIR": "1"}
    index = variables.get("UV_DEFAULT_INDEX") or variables.get("UV_INDEX_URL")
    if index and "PIP_INDEX_URL" not in variables:
        variables["PIP_INDEX_URL"] = index
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_SECONDS,
        env={**variables, **(more or {})}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _fault(what: str, said: str) -> ConflictError:
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("WARNING")]
    return ConflictError(
        f"{what}: {' '.join(lines)[-_SHOWN:] or 'it says nothing'}",
        next_step="Set up the network or a mirror (UV_INDEX_URL, PIP_INDEX_URL), or run"
        " ./dev wheelhouse in a checkout on a machine with Internet and copy its folder here.",
    )
