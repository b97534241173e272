import os
import subprocess
import sys

import pytest

from millpond.ground.errors import ConflictError
from millpond.storage.locking import FolderLock

HOLD = """
import sys
from pathlib import Path
from millpond.storage.locking import FolderLock
lock = FolderLock(Path(sys.argv[1]))
lock.tell("http://127.0.0.1:1234")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_server_is_refused_with_process_and_address(tmp_path):
    with FolderLock(tmp_path / "data") as lock:
        with pytest.raises(ConflictError, match=f"process {os.getpid()}, which is still starting"):
            FolderLock(tmp_path / "data")
        lock.tell("http://127.0.0.1:9")
        with pytest.raises(ConflictError, match=f"process {os.getpid()} at http://127.0.0.1:9"):
            FolderLock(tmp_path / "data")
        FolderLock(tmp_path / "other").close()
    FolderLock(tmp_path / "data").close()


def test_a_killed_server_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConflictError, match=f"process {holder.pid} at http://127.0.0.1:1234"):
            FolderLock(tmp_path)
        holder.kill()
    FolderLock(tmp_path).close()
