"""The engine's own folder on a node: one engine at a time, swept clean at the start."""

import fcntl
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from millpond.engine.plain import can_walk
from millpond.engine.port import Transfer
from millpond.engine.sandbox import write_etc
from millpond.engine.staging import stage_in
from millpond.engine.values import TaskSpec
from millpond.ground.errors import ConflictError, Fault, InvalidError
from millpond.kit.clearing import clear_folder

_SYSTEM_PYTHON = "/usr/bin/python3"


def scratch_prefix(root: Path) -> str:
    """Give what the names of an engine's control groups and sandboxes begin with."""
    return f"millpond-{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:8]}-"


class Scratch:
    """Folders for sandboxes, code by digest, the plain environment. Safe to share."""

    def __init__(self, root: Path) -> None:
        """Take the folder over and empty it of what an earlier engine left.

        Raises:
            ConflictError: another engine uses it.
        """
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)  # Users' uids walk through it and can't list it.
        self.root = root.resolve()
        self._lock_file = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            os.close(self._lock_file)
            raise ConflictError(
                f"Another engine uses the folder {self.root}.",
                next_step="Stop the other Millpond, or give this one a data folder of its own.",
            ) from fault
        self.prefix = scratch_prefix(self.root)
        self._numbers = itertools.count(1)
        self._making = threading.Lock()
        for name in ("sandboxes", "code", "etc"):
            folder = self.root / name
            if folder.exists():
                clear_folder(str(folder))
            folder.mkdir(exist_ok=True)
            folder.chmod(0o711)
        write_etc(self.root / "etc")
        (self.root / "code" / "none").mkdir()

    @property
    def etc(self) -> Path:
        """Files for a sandbox's /etc."""
        return self.root / "etc"

    def make_folder(self, uid: int | None) -> Path:
        """Make a sandbox's folder: ``in`` is ours, ``out`` and ``tmp`` are its uid's."""
        folder = self.root / "sandboxes" / f"{self.prefix}{next(self._numbers)}"
        folder.mkdir()
        folder.chmod(0o711)
        for name in ("in", "out", "tmp"):
            part = folder / name
            part.mkdir()
            part.chmod(0o755)
            if uid is not None and name != "in":
                os.chown(part, uid, uid)
        return folder

    def code_folder(self, transfer: Transfer, task: TaskSpec) -> Path:
        """Bring a pipeline version's files here, once; a half-made folder is never used.

        Raises:
            InvalidError: the digest is not a plain name.
        """
        name = task.code_digest or "none"
        if not name.isalnum():
            raise InvalidError(
                "The digest of the code is not one.",
                next_step="This is a defect of Millpond; please report it with your run's id.",
                faults=[Fault("code_digest", "is not letters and digits")],
            )
        folder = self.root / "code" / name
        with self._making:
            if not folder.is_dir():
                half = self.root / "code" / f".{uuid4().hex}"
                half.mkdir(mode=0o755)
                half.chmod(0o755)
                try:
                    stage_in(transfer, str(half), task.code)
                    half.rename(folder)
                except BaseException:
                    clear_folder(str(half))
                    half.rmdir()
                    raise
        return folder

    def bare_environment(self, *, for_other_uid: bool) -> Path:
        """Make, once, the environment without packages: the server's own kind of Python."""
        with self._making:
            folder = self.root / ("bare-plain" if for_other_uid else "bare")
            if (folder / "bin" / "python").exists():
                return folder
            python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
            if for_other_uid and not can_walk(python):
                python = Path(_SYSTEM_PYTHON)
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run(
                [str(python), "-I", "-m", "venv", "--without-pip", "--symlinks", str(folder)],
                check=True,
                capture_output=True,
                env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
            )
            folder.chmod(0o755)
            return folder

    def close(self) -> None:
        """Empty the folder but for its plain environment, and let it go."""
        for name in ("sandboxes", "code"):
            with suppress(OSError):
                clear_folder(str(self.root / name))
        os.close(self._lock_file)
