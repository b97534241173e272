"""Millpond's own wheel: built from a checkout, or packed again from what is installed."""

import base64
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from uv import find_uv_bin

from millpond.ground import versions
from millpond.ground.errors import ConflictError
from millpond.ground.versions import CHECKOUT, PACKAGE, is_checkout

_LEFT_OUT = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
_TIME = (2020, 1, 1, 0, 0, 0)
_SECONDS = 900


def lock_text() -> str:
    """Give the lock of this very version."""
    own = PACKAGE / "deploy" / "run.txt"
    return (CHECKOUT / "locks" / "run.txt" if is_checkout() else own).read_text()


def make_wheel(folder: Path) -> Path:
    """Make the wheel of this very version in a folder; the same sources give the same bytes.

    Raises:
        ConflictError: it could not be built, or was built without the portal.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _build(folder) if is_checkout() else _pack(folder)


def version_in(wheel: Path) -> str:
    """Give number and code of the Millpond that a wheel holds; empty where it is damaged."""
    try:
        with zipfile.ZipFile(wheel) as held:
            names = [name for name in held.namelist() if name.startswith("millpond/")]
            code = ((name.removeprefix("millpond/"), held.read(name)) for name in names)
            return versions.in_words(wheel.name.split("-")[1], versions.digest_of(code))
    except (OSError, zipfile.BadZipFile):
        return ""


def _build(folder: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix="mp-wheel-") as making:
        done = subprocess.run(
            [find_uv_bin(), "build", "--wheel", "--quiet", "--no-build-isolation",
             "--python", sys.executable, "--out-dir", making, str(CHECKOUT)],
            capture_output=True, text=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
        found = list(Path(making).glob("millpond-*.whl"))
        if done.returncode or not found:
            raise ConflictError(
                f"Millpond's own wheel could not be built: {done.stderr.strip()[-800:]}",
                next_step="Run ./dev wheel, which says more, and mend what it says.",
            )
        with zipfile.ZipFile(found[0]) as wheel:
            if not any(name.startswith("millpond/web/static/") for name in wheel.namelist()):
                raise ConflictError(
                    "Millpond's own wheel was built without the portal's pages.",
                    next_step="Look whether npm's registry can be reached; ./dev wheel says more.",
                )
        return _move(found[0], folder)


def _move(path: Path, folder: Path) -> Path:
    """Move between file systems too."""
    kept = folder / path.name
    making = kept.with_suffix(".new")
    making.write_bytes(path.read_bytes())
    return making.replace(kept)


def _pack(folder: Path) -> Path:
    """Pack what is installed; scripts are made anew wherever the wheel is installed."""
    own = importlib.metadata.distribution("millpond")
    path = folder / f"millpond-{own.version}-py3-none-any.whl"
    making, record, info = path.with_suffix(".new"), [], f"millpond-{own.version}.dist-info"
    with zipfile.ZipFile(making, "w", zipfile.ZIP_DEFLATED) as wheel:
        for each in sorted(own.files or [], key=str):
            name = each.as_posix()
            if name.startswith("..") or name.endswith(".pyc") or each.name in _LEFT_OUT:
                continue
            data = Path(str(each.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{name},sha256={digest},{len(data)}")
            wheel.writestr(_entry(name), data)
        record.append(f"{info}/RECORD,,")
        wheel.writestr(_entry(f"{info}/RECORD"), "\n".join(record) + "\n")
    return making.replace(path)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
