"""The decorators ``step`` and ``pipeline``, and the tracing of a pipeline's body into a graph.

Called in a plain script, a step is the plain function. While a pipeline is compiled, its body is
called once with symbols in place of data and parameters, and every step that it calls is noted.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Optional

from .hints import kind_of, outputs_of, returned_class
from .kinds import Files
from .options import StepOptions

_HERE = str(Path(__file__).parent)


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
    step: "AnyStep"
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


@dataclass
class Declared:
    """What the decorators have seen since the process began, and the trace that is under way."""

    pipelines: "list[PipelineFunction]" = field(default_factory=list)
    faults: "list[Fault]" = field(default_factory=list)
    trace: Optional[Trace] = None


DECLARED = Declared()


def caller() -> "tuple[str, int]":
    """Give file and line of the nearest frame that is the user's."""
    frame = sys._getframe(1)  # noqa: SLF001 - the documented way to walk up cheaply.
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
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
            f"{Path(file).name}:{line}: {what!r} has no value while the pipeline is compiled: a"
            " pipeline's body only hands things on; compare, compute and loop over data in a step"
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


class AnyStep:
    """What function steps and command steps have in common: a name, options and calls."""

    def __init__(self, name: str, options: StepOptions, place: "tuple[str, int]") -> None:
        """Note the faults of its options at the place where it is declared."""
        self.name, self.options, self.place = name, options, place
        DECLARED.faults += [Fault(*place, f"step {name!r}: {each}") for each in options.faults]

    def signature(self) -> inspect.Signature:
        """Give names and defaults of its arguments."""
        raise NotImplementedError

    def returns(self) -> "list[tuple[str, str]]":
        """Give names and kinds of its outputs."""
        raise NotImplementedError

    def pack(self, symbols: "list[Symbol]") -> Any:
        """Give its symbols as its plain call would give its results."""
        return symbols[0] if len(symbols) == 1 else tuple(symbols)

    def record(self, trace: Trace, args: Any, kwargs: Any) -> Any:
        """Note a call in the trace and give symbols for its outputs."""
        place = caller()
        name = trace.name_for(self.name)
        try:
            bound = self.signature().bind(*args, **kwargs)
            bound.apply_defaults()
            trace.calls.append(Call(name, self, bound.arguments, place))
        except TypeError as fault:
            trace.faults.append(Fault(*place, f"step {self.name!r} is called wrongly: {fault}"))
        outputs = self.returns() or [("result", "files")]
        return self.pack([Symbol({"step": name, "output": out}, kind) for out, kind in outputs])


class StepFunction(AnyStep):
    """A decorated Python function."""

    def __init__(self, function: "Callable[..., Any]", options: StepOptions) -> None:
        """Take the function's name, lines and documentation over."""
        code = function.__code__
        super().__init__(function.__name__, options, (code.co_filename, code.co_firstlineno))
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or note the call while a pipeline is compiled."""
        if DECLARED.trace is None:
            return self.function(*args, **kwargs)
        return self.record(DECLARED.trace, args, kwargs)

    def signature(self) -> inspect.Signature:
        """Give names and defaults of its arguments."""
        return inspect.signature(self.function)

    def returns(self) -> "list[tuple[str, str]]":
        """Give names and kinds of its outputs, as far as its return hint tells."""
        return outputs_of(self.function)[0]

    def pack(self, symbols: "list[Symbol]") -> Any:
        """Give a named tuple's symbols as that named tuple."""
        made = returned_class(self.function)
        return made(*symbols) if made is not None else super().pack(symbols)


class CommandStep(AnyStep):
    """A program in any language: data in folders, parameters in a file, results in a folder."""

    def __init__(
        self,
        name: str,
        command: "Sequence[str]",
        hints: "Mapping[str, Any]",
        defaults: "Mapping[str, Any]",
        outputs: "list[tuple[str, str]]",
        options: StepOptions,
    ) -> None:
        """Take what ``step.command`` was given."""
        super().__init__(name, options, caller())
        self.command, self.hints, self.defaults = tuple(command), dict(hints), dict(defaults)
        self.outputs = outputs

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Note the call while a pipeline is compiled."""
        if DECLARED.trace is None:
            raise RuntimeError(f"The command step {self.name!r} runs in Millpond only.")
        return self.record(DECLARED.trace, args, kwargs)

    def signature(self) -> inspect.Signature:
        """Give names and defaults of its arguments: inputs first, then parameters."""
        kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
        ordered = sorted(self.hints, key=lambda name: name in self.defaults)
        return inspect.Signature(
            [inspect.Parameter(n, kind, default=self.defaults.get(n, empty)) for n in ordered]
        )

    def returns(self) -> "list[tuple[str, str]]":
        """Give names and kinds of its outputs."""
        return self.outputs


class PipelineFunction:
    """A decorated function whose body wires steps together."""

    def __init__(self, function: "Callable[..., Any]", name: str) -> None:
        """Note it among the pipelines of this process."""
        self.function, self.name = function, name
        code = function.__code__
        self.place = (code.co_filename, code.co_firstlineno)
        functools.update_wrapper(self, function)
        DECLARED.pipelines.append(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function as it stands."""
        return self.function(*args, **kwargs)


class _StepMaker:
    """Makes steps: ``@step``, ``@step(...)`` or ``step.command(...)``."""

    def __call__(
        self, function: "Optional[Callable[..., Any]]" = None, **options: Any
    ) -> Any:  # The type checker of users' code sees a callable either way.
        """Make a Python function a step.

        Options: ``map`` (call it once per partition of its first input), ``files_per_task``,
        ``bytes_per_task``, ``rows_per_task``, ``slots``, ``memory``, ``disk``, ``seconds``,
        ``processes``, ``retries``, ``network``, ``secrets``, ``fork``, ``preload``. Sizes are
        numbers of bytes or texts such as ``"1 GiB"``.
        """
        if function is not None:
            return StepFunction(function, StepOptions.of(options))
        return lambda given: StepFunction(given, StepOptions.of(options))

    def command(
        self,
        name: str,
        command: "Sequence[str]",
        *,
        inputs: "Optional[Mapping[str, Any]]" = None,
        parameters: "Optional[Mapping[str, Any]]" = None,
        defaults: "Optional[Mapping[str, Any]]" = None,
        output: Any = None,
        **options: Any,
    ) -> CommandStep:
        """Make a program a step.

        Its words may hold ``{code}``, the folder of the pipeline's files, and ``{NAME}`` of an
        input (its folder) or a parameter (its value). It finds data below the folders named in
        ``MILLPOND_INPUT_<NAME>``, all parameters as JSON in the file ``MILLPOND_PARAMETERS``, and
        leaves its results in its working folder, which ``MILLPOND_OUTPUT`` names.

        Args:
            name: what the step is called.
            command: program and arguments; no shell is put between.
            inputs: kinds by name: Files, File, Table or Model.
            parameters: type hints by name.
            defaults: values of parameters that need not be given.
            output: Files (the default) or Table, when it leaves ``.csv`` or ``.jsonl`` files.
            options: as for ``step``.
        """
        made = StepOptions.of(options)
        kind = kind_of(Files if output is None else output) or ""
        if not kind:
            made.faults.append("output must be Files, File, Table or Model")
        hints = {**(inputs or {}), **(parameters or {})}
        return CommandStep(name, command, hints, defaults or {}, [("result", kind)], made)


step = _StepMaker()


def pipeline(function: "Optional[Callable[..., Any]]" = None, *, name: str = "") -> Any:
    """Make a function a pipeline: its arguments are the form, its body wires steps together."""
    if function is not None:
        return PipelineFunction(function, name or function.__name__)
    return lambda given: PipelineFunction(given, name or given.__name__)
