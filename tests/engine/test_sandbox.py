"""What a sandbox is shown, written down before any is started."""

import importlib.util
import shutil
from pathlib import Path

from millpond.engine import sandbox
from millpond.engine.sandbox import compile_kit, write_etc


def test_etc_names_no_account_of_this_machine(tmp_path):
    write_etc(tmp_path / "etc")
    etc = tmp_path / "etc"
    assert (etc / "passwd").read_text() == "task:x:1000:1000:task:/tmp:/bin/sh\n"
    assert not (etc / "shadow").exists()
    assert not (etc / "resolv.conf").exists() or not (etc / "resolv.conf").read_bytes()
    assert etc.stat().st_mode & 0o777 == 0o755
    assert all(each.stat().st_mode & 0o044 for each in etc.iterdir())


def test_the_kit_is_compiled_once_and_its_absence_is_no_fault(tmp_path, monkeypatch):
    kit = tmp_path / "kit"
    shutil.copytree(sandbox.KIT, kit, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sandbox, "KIT", kit)
    compile_kit()
    made = Path(importlib.util.cache_from_source(str(kit / "runner.py")))
    first = made.stat().st_mtime_ns
    compile_kit()
    assert made.stat().st_mtime_ns == first
    shutil.rmtree(kit)
    compile_kit()
    assert not kit.exists()
