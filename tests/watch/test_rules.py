"""Which meters are believed, how they fold, and how time is cut."""

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millpond.ground.errors import InvalidError
from millpond.machines.meters import Sampler
from millpond.watch import rules
from millpond.watch.values import LEVELS, RANGES, Range

Sample = dict[str, Any]


def test_a_sample_is_read_flat(sample: Sample) -> None:
    flat = rules.read_sample(sample)
    assert flat["cpu"] == 0.5
    assert flat["disk:/data:2:used"] == 150_000_000_000
    assert flat["disk:/data:2:written"] == 1_234_570  # Six digits.
    assert "disk:/data:2:free" not in flat
    assert flat["gpu:0 A100: 40:used"] == 3
    assert "gpu:0 A100: 40:share" not in flat
    assert not [name for name in flat if "anything" in name]


def test_what_this_machine_tells_is_believed() -> None:
    flat = rules.read_sample(Sampler().sample())
    assert flat["memory_total"] > flat["memory_used"] > 0


def test_a_node_as_it_is_now(sample: Sample) -> None:
    at = datetime(2026, 5, 1, 12, tzinfo=UTC)
    now = rules.now_of("a", at, rules.read_sample(sample), at + timedelta(seconds=29))
    assert now.is_fresh
    (disk,), (gpu,) = now.disks, now.gpus
    assert (disk.mount, disk.free_bytes) == ("/data:2", 50_000_000_000)
    assert (gpu.name, gpu.used_share, gpu.memory_total_bytes) == ("A100: 40", None, 9)
    assert not rules.now_of("a", at, {}, at + timedelta(seconds=31)).is_fresh


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cpu": 1.5}, "cpu"),
        ({"cpu": True}, "cpu"),
        ({"cpu": math.nan}, "cpu"),
        ({"load1": math.inf}, "load1"),
        ({"load1": "9"}, "load1"),
        ({"memory_used": 33_000_000_000}, "memory_used"),
        ({"memory_total": -1}, "memory_total"),
        ({"memory_total": 10**400}, "memory_total"),
        ({"network": []}, "network"),
        ({"network": {"rx": -1}}, "network.rx"),
        ({"disks": "/"}, "disks"),
        ({"disks": [1]}, "disks"),
        ({"disks": [{"mount": "/", "total": 1, "free": 2}]}, "disks.0.free"),
        ({"disks": [{"mount": "a\nb", "total": 1, "free": 1}]}, "disks.0.mount"),
        ({"disks": [{"mount": "x" * 121, "total": 1, "free": 1}]}, "disks.0.mount"),
        ({"disks": [{"total": 1, "free": 1}]}, "disks.0.mount"),
        ({"disks": [{"mount": str(n), "total": 1, "free": 1} for n in range(17)]}, "disks"),
        ({"gpus": [{"name": 5}]}, "gpus.0.name"),
        ({"gpus": [{"name": "x", "used": 37}]}, "gpus.0.used"),
    ],
)
def test_what_cannot_be_is_refused_by_name(sample: Sample, change: Sample, field: str) -> None:
    with pytest.raises(InvalidError) as caught:
        rules.read_sample({**sample, **change})
    assert [fault.field for fault in caught.value.faults] == [field]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=5,
)


_NAMES = ("cpu", "cpu_count", "load1", "memory_total", "memory_used", "disks", "gpus", "network")


@settings(suppress_health_check=[HealthCheck.too_slow])  # It judges the machine, not the rule.
@given(told=st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_whatever_is_told_is_read_or_refused(whole_sample: Sample, told: Sample) -> None:
    try:
        flat = rules.read_sample({**whole_sample, **told})
    except InvalidError:
        return  # Named by the tests above.
    assert all(math.isfinite(value) and value >= 0 for value in flat.values())
    assert len(json.dumps(flat)) < 20_000


_numbers = st.floats(0, 1e12).map(rules.shorten)


@given(st.lists(st.tuples(st.sampled_from([5, 60, 900]), _numbers), min_size=1))
def test_folding_keeps_the_mean_and_the_peak(rows: list[tuple[int, float]]) -> None:
    folded = rules.fold([(weight, {"cpu": value}) for weight, value in rows])
    mean, peak = rules.mean_and_peak(folded["cpu"])
    weights = sum(weight for weight, _ in rows)
    assert mean == pytest.approx(sum(w * v for w, v in rows) / weights, rel=1e-5)
    assert peak == max(value for _, value in rows)


def test_folding_twice_is_folding_once() -> None:
    values = [0.1, 0.9, 0.4, 0.4]
    once = rules.fold([(5, {"cpu": value}) for value in values])
    halves = [
        rules.fold([(5, {"cpu": value}) for value in half]) for half in (values[:2], values[2:])
    ]
    assert rules.fold([(10, half) for half in halves]) == once == {"cpu": [0.45, 0.9]}


@pytest.mark.parametrize("wanted", RANGES)
@pytest.mark.parametrize("most", [60, 180])
def test_a_grid_covers_its_range_with_few_steps(wanted: Range, most: int) -> None:
    now = datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC).timestamp()
    grid = rules.plan_grid(wanted, now, most)
    assert grid.steps <= most
    assert grid.steps * grid.step >= RANGES[wanted].total_seconds()
    assert grid.place_of(now) == grid.steps - 1
    assert grid.place_of(grid.first) == 0
    assert grid.place_of(grid.first - 1) is None
    assert grid.place_of(now + grid.step) is None
    assert grid.levels[-1] == LEVELS[0]
    assert all(level.seconds <= grid.step for level in grid.levels)
