"""Options of a step, each checked where it is declared, all faults at once."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS.update({"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40})
_FROM_ZERO = ("gpus", "retries")
_MOST = {"gpus": 16}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class StepOptions:
    """What a step's decorator says; sizes in bytes. Faults hold what is wrong with it."""

    map: bool = False
    files_per_task: int = 100
    bytes_per_task: int = 64 << 20
    rows_per_task: int = 10_000
    slots: float = 1.0
    gpus: int = 0
    memory: int = 2 << 30
    disk: int = 4 << 30
    seconds: float = 3600.0
    processes: int = 128
    retries: int = 0
    network: bool = False
    secrets: "Sequence[str]" = ()
    fork: bool = True
    preload: "Sequence[str]" = ()

    def __init__(self) -> None:
        """Begin with what holds when nothing is said."""
        self.faults: "list[str]" = []

    @classmethod
    def of(cls, given: "Mapping[str, Any]") -> "StepOptions":
        """Read options; what is wrong with them goes to ``faults``."""
        made = cls()
        for name, value in given.items():
            if name not in _KNOWN:
                made.faults.append(f"there is no option {name!r}{_near(name)}")
                continue
            try:
                setattr(made, name, _read(name, getattr(made, name), value))
            except ValueError as fault:
                made.faults.append(f"{name}={value!r}: {fault}")
        return made


_KNOWN = [name for name in StepOptions.__annotations__ if name != "faults"]


def _near(name: str) -> str:
    import difflib  # Loaded when needed: every task declares its steps.

    near = difflib.get_close_matches(name, _KNOWN, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(_KNOWN)}"


def _read(name: str, default: "Any", value: "Any") -> "Any":
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
    if value < 0 or (value == 0 and name not in _FROM_ZERO):
        raise ValueError("must be 0 or more" if name in _FROM_ZERO else "must be more than 0")
    if value > _MOST.get(name, value):
        raise ValueError(f"must be {_MOST[name]} at most")
    return value


def read_size(value: "Any") -> int:
    """Read bytes from a number or from a text such as ``512 MiB``.

    Raises:
        ValueError: it is neither, or not more than zero.
    """
    text = str(value).strip().lower()
    digits = text.rstrip(_LETTERS)
    unit = _UNITS.get(text[len(digits) :])
    whole, dot, part = digits.strip().partition(".")
    is_number = whole.isdecimal() and whole.isascii() and part.isdecimal() == bool(dot)
    if isinstance(value, bool) or unit is None or not is_number or not part.isascii():
        raise ValueError('must be bytes, or a text such as "512 MiB" or "2 GB"')
    size = int(float(digits) * unit)
    if size <= 0:
        raise ValueError("must be more than 0")
    return size
