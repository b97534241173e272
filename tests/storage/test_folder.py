import errno
import os
import subprocess
import sys
import threading

import pytest

from millpond.ground.errors import BusyError, ConflictError
from millpond.storage import flushing, folder, signing
from millpond.storage.flushing import flush_file_system
from millpond.storage.folder import FolderStore


def test_half_written_objects_are_swept_away_at_the_start(tmp_path):
    FolderStore(tmp_path, "http://h", b"k")
    (tmp_path / "tmp" / "half").write_bytes(b"x")
    store = FolderStore(tmp_path, "http://h", b"k")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list(store.list("")) == []


def test_nothing_temporary_is_left_behind(folder_store, tmp_path):
    class Failing:
        def read(self, size=-1):
            raise ConnectionError

    folder_store.put("a", b"x")
    with pytest.raises(ConflictError):
        folder_store.put("a", b"y")
    with pytest.raises(ConnectionError):
        folder_store.put("b", Failing())
    folder_store.put_many([("a", b"y"), ("c", b"z")])
    assert list((tmp_path / "objects" / "tmp").iterdir()) == []
    assert not folder_store.exists("b")


def test_a_key_cannot_be_the_folder_of_another(folder_store):
    folder_store.put("a/b", b"x")
    with pytest.raises(ConflictError):
        folder_store.put("a/b/c", b"x")
    with pytest.raises(ConflictError):
        folder_store.put("a", b"x")
    assert not folder_store.exists("a")


def test_objects_are_for_the_servers_user_alone(folder_store):
    folder_store.put("p/a", b"x")
    path = folder_store.local_path("p/a")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(folder_store):
    faults = []

    def work(name):
        try:
            for number in range(100):
                folder_store.put(f"deep/er/{name}{number}", b"x")
                folder_store.delete(f"deep/er/{name}{number}")
        except Exception as fault:  # noqa: BLE001 - shown below.
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(folder_store.list("")) == []


FILL = """
import sys
from pathlib import Path
from millpond.storage.folder import FolderStore
store = FolderStore(Path(sys.argv[1]), "http://h", b"k")
try:
    store.put("big", bytes(4 << 20))
except Exception as fault:
    print(type(fault).__name__, fault.next_step)
store.put("small", b"x")
print(store.exists("big"), store.exists("small"), list((Path(sys.argv[1]) / "tmp").iterdir()))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system: sudo")
def test_a_full_disk_is_busy_and_leaves_nothing(tmp_path):
    # A file system of 2 MiB in a mount namespace of its own, which ends with the process.
    script = (
        f'mount -t tmpfs -o size=2m none {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, FILL], capture_output=True, text=True, check=True
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("BusyError Free space")
    assert second == "False True []"


def test_only_a_full_disk_is_called_full():
    with pytest.raises(PermissionError), folder._full_disk_told():
        raise PermissionError(errno.EACCES, "no")
    with pytest.raises(BusyError), folder._full_disk_told():
        raise OSError(errno.EDQUOT, "quota")


def test_the_key_file_is_made_once_and_private(tmp_path):
    key = signing.load_key(tmp_path / "objects.key")
    assert signing.load_key(tmp_path / "objects.key") == key
    assert len(key) == 32
    assert (tmp_path / "objects.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the call: run it there")
def test_the_file_system_is_flushed_in_one_call(folder_store):
    assert flush_file_system(folder_store._objects)


def test_new_folders_are_flushed_before_anything_is_said_to_be_kept(
    folder_store, monkeypatch, tmp_path
):
    flushed = []

    def note(path):
        flushed.append(path)
        flushing.flush(path)

    monkeypatch.setattr(folder, "flush", note)
    top = tmp_path / "objects" / "objects"
    folder_store.put("a/b/one", b"1")
    assert [path for path in flushed if path.is_dir()] == [top / "a/b", top / "a", top]
    flushed.clear()
    folder_store.put_many([("c/d/one", b"1"), ("c/d/two", b"2")])
    assert {path for path in flushed if path.is_dir()} == {top / "c/d", top / "c", top}
