"""Debian packages that bare nodes lack: Python and bubblewrap, with all that they need."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from millpond.deploy.target import digest_of
from millpond.ground.errors import ConflictError

WANTED = ("python3", "bubblewrap")
_SECONDS = 900


def kind_here() -> str:
    """Give this host's release and machine as Debian calls them; empty where there is no apt."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return ""
    release = codename(Path("/etc/os-release").read_text())
    done = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=False
    )
    return f"{release}-{done.stdout.strip()}" if release and done.stdout.strip() else ""


def codename(os_release: str) -> str:
    """Read the release's name out of the text of ``/etc/os-release``."""
    for line in os_release.splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip().strip('"')
    return ""


def fetch(folder: Path) -> dict[str, str]:
    """Fetch the packages and everything below them into a folder; apt checks their signatures.

    Returns:
        Their SHA-256 by name.

    Raises:
        ConflictError: apt cannot; says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mp-debs-") as making:
        Path(making).chmod(0o755)
        done = _download(Path(making))
        if done.returncode and os.geteuid() == 0:  # Its lists may be old, or none at all.
            _apt("update")
            done = _download(Path(making))
        if done.returncode:
            lines = [each for each in done.stderr.splitlines() if each.strip()]
            raise ConflictError(
                f"apt could not fetch {' and '.join(WANTED)}: {' '.join(lines)[-600:]}",
                next_step="Look whether `apt-get update` works on this host, then try again.",
            )
        found = sorted(Path(making).glob("*.deb"))
        for path in found:
            shutil.move(path, folder / path.name)
    return {path.name: digest_of(folder / path.name) for path in found}


def _download(folder: Path) -> subprocess.CompletedProcess[str]:
    """Let apt believe that nothing is installed, so that it fetches all that a bare one needs."""
    (folder / "partial").mkdir(exist_ok=True)
    (folder / "status").touch()
    return _apt(
        "install", "--yes", "--download-only", "--no-install-recommends",
        "-o", f"Dir::State::status={folder}/status", "-o", f"Dir::Cache::archives={folder}",
        "-o", "Debug::NoLocking=1", *WANTED,
    )  # fmt: skip


def _apt(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", *words],
        capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL,
    )  # fmt: skip
