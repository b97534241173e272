"""The decorators ``step`` and ``pipeline``.

Called in a plain script, a step is the plain function. While a pipeline is compiled, its body is
called once with symbols in place of data and parameters, and ``trace`` notes every step it calls.
Every task loads this module: what only compiling needs lies in ``trace``.
"""

import sys

from .hints import kind_of
from .kinds import Files
from .options import StepOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Optional

    from .trace import Trace

HERE = __file__.rpartition("/")[0]
_TAKEN_OVER = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")


class Declared:
    """What the decorators have seen since the process began, and the trace that is under way.

    Attributes:
        pipelines: in the order of their declaration.
        faults: of options, each with file, line and message.
        trace: takes the calls of steps while a pipeline is compiled.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.pipelines: "list[PipelineFunction]" = []
        self.faults: "list[tuple[str, int, str]]" = []
        self.trace: "Optional[Trace]" = None


DECLARED = Declared()


class AnyStep:
    """What function steps and command steps have in common: a name, options and calls."""

    def __init__(self, name: str, options: StepOptions, place: "tuple[str, int]") -> None:
        """Note the faults of its options at the place where it is declared."""
        self.name, self.options, self.place = name, options, place
        DECLARED.faults += [(*place, f"step {name!r}: {each}") for each in options.faults]


class StepFunction(AnyStep):
    """A decorated Python function."""

    def __init__(self, function: "Callable[..., Any]", options: StepOptions) -> None:
        """Take the function's name, lines and documentation over."""
        code = function.__code__
        super().__init__(function.__name__, options, (code.co_filename, code.co_firstlineno))
        self.function = function
        _take_over(self, function)

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        """Call the function, or note the call while a pipeline is compiled."""
        if DECLARED.trace is None:
            return self.function(*args, **kwargs)
        return DECLARED.trace.record(self, args, kwargs)


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
        frame = sys._getframe(2)  # noqa: SLF001 - whoever called ``step.command``.
        super().__init__(name, options, (frame.f_code.co_filename, frame.f_lineno))
        self.command, self.hints, self.defaults = tuple(command), dict(hints), dict(defaults)
        self.outputs = outputs

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        """Note the call while a pipeline is compiled."""
        if DECLARED.trace is None:
            raise RuntimeError(f"The command step {self.name!r} runs in Millpond only.")
        return DECLARED.trace.record(self, args, kwargs)


class PipelineFunction:
    """A decorated function whose body wires steps together."""

    def __init__(self, function: "Callable[..., Any]", name: str) -> None:
        """Note it among the pipelines of this process."""
        self.function, self.name = function, name
        code = function.__code__
        self.place = (code.co_filename, code.co_firstlineno)
        _take_over(self, function)
        DECLARED.pipelines.append(self)

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        """Call the function as it stands."""
        return self.function(*args, **kwargs)


def _take_over(made: "Any", function: "Callable[..., Any]") -> None:
    """Look like the function, as ``functools.update_wrapper`` does; that module is not small."""
    lazy = hasattr(function, "__annotate__")  # Python 3.14 reads hints when they are asked for.
    for name in (*_TAKEN_OVER, "__annotate__" if lazy else "__annotations__"):
        if hasattr(function, name):
            setattr(made, name, getattr(function, name))
    made.__dict__.update(function.__dict__)
    made.__wrapped__ = function


class _StepMaker:
    """Makes steps: ``@step``, ``@step(...)`` or ``step.command(...)``."""

    def __call__(
        self, function: "Optional[Callable[..., Any]]" = None, **options: "Any"
    ) -> "Any":  # The type checker of users' code sees a callable either way.
        """Make a Python function a step.

        Options: ``map`` (call it once per partition of its first input), ``files_per_task``,
        ``bytes_per_task``, ``rows_per_task``, ``slots``, ``gpus``, ``memory``, ``disk``,
        ``seconds``, ``processes``, ``retries``, ``network``, ``secrets``, ``fork``, ``preload``.
        Sizes are numbers of bytes or texts such as ``"1 GiB"``.
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
        output: "Any" = None,
        **options: "Any",
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


def pipeline(function: "Optional[Callable[..., Any]]" = None, *, name: str = "") -> "Any":
    """Make a function a pipeline: its arguments are the form, its body wires steps together."""
    if function is not None:
        return PipelineFunction(function, name or function.__name__)
    return lambda given: PipelineFunction(given, name or given.__name__)
