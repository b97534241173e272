"""What a machine tells of itself: plausible here, exact where the source is a file of ours."""

import json
import os
from pathlib import Path

import psutil

from millpond.machines.meters import Sampler, read_nvidia


def test_a_sample_tells_of_this_machine_and_is_plain_json(tmp_path: Path) -> None:
    sampler = Sampler([tmp_path, tmp_path], tasks=lambda: [{"key": "a/b/0/1"}])
    sampler.sample()
    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    sample = json.loads(json.dumps(sampler.sample()))
    assert 0 <= sample["cpu"] <= 1
    assert sample["cpu_count"] == psutil.cpu_count()
    assert 0 < sample["memory_used"] <= sample["memory_total"] <= psutil.virtual_memory().total
    (disk,) = sample["disks"]
    assert tmp_path.is_relative_to(disk["mount"])
    assert 0 < disk["free"] < disk["total"]
    assert disk["read_bytes_per_second"] >= 0
    assert disk["write_bytes_per_second"] >= 0
    assert set(sample["network"]) == {"rx", "tx"}
    assert sample["tasks"] == [{"key": "a/b/0/1"}]


def test_a_folder_that_is_gone_is_left_out(tmp_path: Path) -> None:
    assert Sampler([tmp_path / "gone"]).sample()["disks"] == []


def _group(folder: Path, limit: str, usage: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


def test_a_control_group_with_less_memory_counts_as_the_machine(tmp_path: Path) -> None:
    _group(tmp_path / "groups" / "slice" / "unit", "max", 7 << 20, 0)
    _group(tmp_path / "groups" / "slice", str(64 << 20), 40 << 20, 8 << 20)
    own = tmp_path / "own"
    own.write_text("0::/slice/unit\n")
    sample = Sampler(groups=tmp_path / "groups", own_group=own).sample()
    assert sample["memory_total"] == 64 << 20
    assert sample["memory_used"] == 32 << 20


def test_graphics_cards_are_read_as_the_driver_writes_them() -> None:
    text = "0, NVIDIA A100-SXM4-40GB, 37, 40960, 1024\n1, Odd, with comma, 1, 2, 3\n2, T4, [N/A], 15360, 0\n"
    first, second = read_nvidia(text)
    assert first == {
        "index": 0,
        "name": "NVIDIA A100-SXM4-40GB",
        "used": 0.37,
        "memory_total": 40960 << 20,
        "memory_used": 1024 << 20,
    }
    assert second["used"] is None
