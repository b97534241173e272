"""Control groups of version 2, on folders that stand for them; version 1 is held by the contract."""

import os
from pathlib import Path

from millpond.engine.cgroups import Group, Groups, find_groups
from millpond.engine.values import Limits


def make_tree(root: Path, controllers: str = "cpu memory pids") -> Path:
    root.mkdir(exist_ok=True)
    (root / "cgroup.controllers").write_text(controllers)
    (root / "cgroup.subtree_control").write_text("cpu memory pids")
    return root


def test_limits_of_version_2(tmp_path: Path) -> None:
    limits = Limits(cpu_slots=1.5, memory_bytes=1 << 30, processes=20)
    group = Groups(2, tmp_path).make("millpond-1", limits)
    folder = tmp_path / "millpond-1"
    assert (folder / "memory.max").read_text() == str(1 << 30)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "pids.max").read_text() == "22"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert group.join_files == [str(folder / "cgroup.procs")]


def test_the_bill_of_version_2(tmp_path: Path) -> None:
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 2000000\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    (tmp_path / "memory.events").write_text("low 0\noom 2\noom_kill 1\n")
    bill = Group(2, (tmp_path,)).read()
    assert (bill.cpu_seconds, bill.memory_peak_bytes, bill.memory_kills) == (2.5, 4096, 1)


def test_the_bill_without_files_is_nothing(tmp_path: Path) -> None:
    for version in (1, 2):
        bill = Group(version, (tmp_path,)).read()
        assert (bill.cpu_seconds, bill.memory_peak_bytes, bill.memory_kills) == (0, 0, 0)


def test_version_2_is_found_where_it_can_be_written(tmp_path: Path) -> None:
    groups, reason = find_groups(make_tree(tmp_path / "cg"), own="0::/\n")
    assert groups is not None
    assert (groups.version, groups.base, reason) == (2, tmp_path / "cg", "")


def test_groups_go_below_the_service_that_systemd_has_given_them(tmp_path: Path) -> None:
    root, own = make_tree(tmp_path / "cg"), "0::/system.slice/millpond-worker.service\n"
    (root / "system.slice").mkdir()
    service = make_tree(root / "system.slice" / "millpond-worker.service")
    groups, _ = find_groups(root, own=own)
    assert groups is not None
    assert groups.base == root, "root may write there, and nothing is said of the service"
    os.setxattr(service, "user.delegate", b"1")
    groups, _ = find_groups(root, own=own.replace("\n", "/server\n"))  # It has moved there.
    assert groups is not None
    assert groups.base == service


def test_no_groups_at_all_are_told_with_how_to_mend_it(tmp_path: Path) -> None:
    groups, reason = find_groups(tmp_path)
    assert groups is None
    assert "no control groups" in reason


def test_groups_that_can_t_be_written_are_told(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "cg")
    (root / "cgroup.subtree_control").unlink()
    groups, reason = find_groups(root, own="0::/\n")
    assert groups is None
    assert "Delegate=yes" in reason
