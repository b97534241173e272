"""The body of a pipeline as a graph: symbols in place of data, and every call of a step noted.

Loaded while a pipeline is compiled, never by a task.
"""

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Optional

from .declare import HERE, AnyStep, CommandStep, StepFunction
from .hints import outputs_of, returned_class


@dataclass(frozen=True)
class Fault:
    """Something wrong with a pipeline's code, at the line where its author can mend it."""

    file: str
    line: int
    message: str


class TraceError(Exception):
    """The body of a pipeline did something with a symbol that only a step can do with data."""


@dataclass(frozen=True)
class Call:
    """One call of a step in a pipeline's body.

    Attributes:
        name: unique in the pipeline.
        arguments: by name; symbols, lists of symbols, or plain values.
    """

    name: str
    step: AnyStep
    arguments: "Mapping[str, Any]"
    line: "tuple[str, int]"


@dataclass
class Trace:
    """What is noted while a pipeline's body runs."""

    calls: "list[Call]" = field(default_factory=list)
    faults: "list[Fault]" = field(default_factory=list)
    names: "dict[str, int]" = field(default_factory=dict)

    def name_for(self, base: str) -> str:
        """Give the name of the next call of a step: ``clean``, ``clean_2``, ``clean_3``."""
        count = self.names[base] = self.names.get(base, 0) + 1
        name = base if count == 1 else f"{base}_{count}"
        return name if count == 1 or name not in self.names else self.name_for(base)

    def record(self, step: AnyStep, args: Any, kwargs: Any) -> Any:
        """Note a call and give symbols for its outputs."""
        place = caller()
        name = self.name_for(step.name)
        try:
            bound = _signature(step).bind(*args, **kwargs)
            bound.apply_defaults()
            self.calls.append(Call(name, step, bound.arguments, place))
        except TypeError as fault:
            self.faults.append(Fault(*place, f"step {step.name!r} is called wrongly: {fault}"))
        outputs = returns(step) or [("result", "files")]
        return _pack(step, [Symbol({"step": name, "output": out}, kind) for out, kind in outputs])


def caller() -> "tuple[str, int]":
    """Give file and line of the nearest frame that is the user's."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to walk up cheaply.
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class Symbol:
    """Stands for data or a parameter while a pipeline is compiled; it can only be handed on.

    Attributes:
        source: ``{"input": NAME}``, ``{"parameter": NAME}`` or ``{"step": NAME, "output": NAME}``.
        kind: files, file, table, model; empty for a parameter.
        schema: of a parameter.
    """

    def __init__(
        self, source: "dict[str, str]", kind: str, schema: "Optional[dict[str, Any]]" = None
    ) -> None:
        """Stand for this source."""
        self.source, self.kind = source, kind
        self.schema: "dict[str, Any]" = {} if schema is None else schema

    __hash__ = object.__hash__

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        what = next(iter(self.source.values()))
        file, line = caller()
        raise TraceError(
            f"{file.rpartition('/')[2]}:{line}: {what!r} has no value while the pipeline is"
            " compiled: a pipeline's body only hands things on; compare, compute and loop over"
            " data in a step"
        )

    __bool__ = __len__ = __iter__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _refuse
    __rtruediv__ = __floordiv__ = __mod__ = __pow__ = __neg__ = __getitem__ = _refuse
    __float__ = __int__ = __index__ = __str__ = __format__ = __call__ = __contains__ = _refuse
    __eq__ = __ne__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()


def _signature(step: AnyStep) -> inspect.Signature:
    """Give names and defaults of a step's arguments; of a program, inputs first."""
    if isinstance(step, StepFunction):
        return inspect.signature(step.function)
    assert isinstance(step, CommandStep)  # noqa: S101 - there are two kinds.
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    ordered = sorted(step.hints, key=lambda name: name in step.defaults)
    return inspect.Signature(
        [inspect.Parameter(n, kind, default=step.defaults.get(n, empty)) for n in ordered]
    )


def returns(step: AnyStep) -> "list[tuple[str, str]]":
    """Give names and kinds of a step's outputs, as far as its return hint tells."""
    if isinstance(step, CommandStep):
        return step.outputs
    assert isinstance(step, StepFunction)  # noqa: S101 - there are two kinds.
    return outputs_of(step.function)[0]


def _pack(step: AnyStep, symbols: "list[Symbol]") -> Any:
    """Give a step's symbols as its plain call would give its results."""
    made = returned_class(step.function) if isinstance(step, StepFunction) else None
    if made is not None:
        return made(*symbols)
    return symbols[0] if len(symbols) == 1 else tuple(symbols)
