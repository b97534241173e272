"""What a machine tells of itself, and what drives a browser."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

SHOTS = Path(__file__).parents[2] / "tools" / "shots.py"

Sample = dict[str, Any]

_SAMPLE: Sample = {
    "at": "2026-05-01T12:00:00+00:00",
    "load1": 1.25,
    "cpu": 0.5,
    "cpu_count": 4,
    "memory_total": 32_000_000_000,
    "memory_used": 8_000_000_000,
    "swap_used": 0,
    "disks": [
        {
            "mount": "/data:2",
            "total": 200_000_000_000,
            "free": 50_000_000_000,
            "read_bytes_per_second": 10.0,
            "write_bytes_per_second": 1234567.89,
        }
    ],
    "network": {"rx": 100.0, "tx": 50.0},
    "gpus": [{"index": 0, "name": "A100: 40", "used": None, "memory_total": 9, "memory_used": 3}],
    "tasks": [{"key": "anything"}],
}


@pytest.fixture
def sample() -> Sample:
    """Give a sample that can be changed."""
    return {**_SAMPLE}


@pytest.fixture(scope="session")
def whole_sample() -> Sample:
    """Give a sample that is only read."""
    return _SAMPLE


@pytest.fixture
def shots(
    monkeypatch: pytest.MonkeyPatch, missing_here: Callable[[str, str], NoReturn]
) -> ModuleType:
    """Give what drives a browser."""
    if not shutil.which("chromium"):
        missing_here("chromium", "apt-get install chromium")
    monkeypatch.syspath_prepend(str(SHOTS.parent))
    spec = importlib.util.spec_from_file_location("shots", SHOTS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
