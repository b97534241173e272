"""Options of a step, each checked where it is declared, all faults at once."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS.update({"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40})
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


@dataclass
class StepOptions:
    """What a step's decorator says; sizes in bytes."""

    map: bool = False
    files_per_task: int = 100
    bytes_per_task: int = 64 << 20
    rows_per_task: int = 10_000
    slots: float = 1.0
    memory: int = 2 << 30
    disk: int = 4 << 30
    seconds: float = 3600.0
    processes: int = 128
    retries: int = 0
    network: bool = False
    secrets: "Sequence[str]" = ()
    fork: bool = True
    preload: "Sequence[str]" = ()
    faults: "list[str]" = field(default_factory=list)

    @classmethod
    def of(cls, given: "Mapping[str, Any]") -> "StepOptions":
        """Read options; what is wrong with them goes to ``faults``."""
        made = cls()
        known = [each.name for each in fields(cls) if each.name != "faults"]
        for name, value in given.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(known)}"
                made.faults.append(f"there is no option {name!r}{hint}")
                continue
            try:
                setattr(made, name, _read(name, getattr(made, name), value))
            except ValueError as fault:
                made.faults.append(f"{name}={value!r}: {fault}")
        return made


def _read(name: str, default: Any, value: Any) -> Any:
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError("must be True or False")  # noqa: TRY004 - told as a fault of the option.
        return value
    if isinstance(default, tuple):
        if isinstance(value, str) or not all(isinstance(each, str) for each in value):
            raise ValueError("must be a list of texts")
        return tuple(value)
    if name in ("memory", "disk", "bytes_per_task"):
        return read_size(value)
    whole = isinstance(default, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise ValueError("must be a whole number" if whole else "must be a number")  # noqa: TRY004 - the same.
    if value < 0 or (value == 0 and name != "retries"):
        raise ValueError("must be 0 or more" if name == "retries" else "must be more than 0")
    return value


def read_size(value: Any) -> int:
    """Read bytes from a number or from a text such as ``512 MiB``.

    Raises:
        ValueError: it is neither, or not more than zero.
    """
    found = _SIZE.fullmatch(str(value))
    if isinstance(value, bool) or found is None or found.group(2).lower() not in _UNITS:
        raise ValueError('must be bytes, or a text such as "512 MiB" or "2 GB"')
    size = int(float(found.group(1)) * _UNITS[found.group(2).lower()])
    if size <= 0:
        raise ValueError("must be more than 0")
    return size
