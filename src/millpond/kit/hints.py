"""What type hints of steps and pipelines say: kinds of data, forms, names of outputs, values.

Plain classes as hints are read without the package ``typing``, which every new sandbox would pay
for; any other hint was made by it, or needs it to be understood.
"""

import sys

from .kinds import File, Files, Model, Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

_KINDS = {Files: "files", File: "file", Table: "table", Model: "model"}
_FOREIGN = {("pyarrow", "Table"): "arrow", ("pandas", "DataFrame"): "pandas"}
_NONE = type(None)
_READ: "dict[Callable[..., Any], tuple[dict[str, Any], str]]" = {}


def _typing() -> "Any":
    import typing

    return typing


def _is_class(hint: "Any") -> bool:
    """Tell whether a hint is a class; ``list[int]`` says so of itself and is none."""
    return issubclass(type(hint), type)


def plain(hint: "Any") -> "Any":
    """Give a hint without ``Annotated`` and ``Optional`` around it."""
    while getattr(hint, "__metadata__", None) is not None:
        hint = hint.__origin__
    if _is_class(hint) or hint is None:
        return hint
    typing = _typing()
    if typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType":
        inner = [each for each in typing.get_args(hint) if each is not _NONE]
        if len(inner) == 1:
            return plain(inner[0])
    return hint


def may_be_none(hint: "Any") -> bool:
    """Say whether a hint lets None stand for what was left out."""
    while getattr(hint, "__metadata__", None) is not None:
        hint = hint.__origin__
    if _is_class(hint) or hint is None:
        return False
    typing = _typing()
    is_union = typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType"
    return is_union and _NONE in typing.get_args(hint)


def form_of(hint: "Any") -> str:
    """Give in which form a step wants a table: ``rows``, ``arrow`` or ``pandas``; else empty."""
    hint = plain(hint)
    if hint is Table:
        return "rows"
    module = getattr(hint, "__module__", "").partition(".")[0]
    return _FOREIGN.get((module, getattr(hint, "__name__", "")), "")


def kind_of(hint: "Any") -> "Optional[str]":
    """Give the kind of data that a hint names; None when it is a parameter's hint.

    ``Iterable``, ``Iterator`` and ``list`` of dicts are tables, of Files none.
    """
    hint = plain(hint)
    if _is_class(hint) and hint in _KINDS:
        return _KINDS[hint]
    if form_of(hint):
        return "table"
    if _is_class(hint) or hint is None:
        return None
    typing = _typing()
    inner = [plain(each) for each in typing.get_args(hint)]
    if len(inner) >= 1 and (inner[0] is dict or typing.get_origin(inner[0]) is dict):
        return "table"
    return None


def hints_of(function: "Callable[..., Any]") -> "tuple[dict[str, Any], str]":
    """Give a function's hints and what is wrong with them, empty when nothing is."""
    if function not in _READ:
        try:
            hints = _simple(function)
            if hints is None:
                hints = _typing().get_type_hints(function, include_extras=True)
            _READ[function] = hints, ""
        except Exception as fault:  # noqa: BLE001 - evaluating users' hints may raise anything.
            told = f"the type hints can't be read: {type(fault).__name__}: {fault}"
            _READ[function] = {}, told
    return _READ[function]


def _simple(function: "Any") -> "Optional[dict[str, Any]]":
    """Give the hints of a function if all are classes, or names of classes; else None."""
    hints = getattr(function, "__annotations__", None)
    if hints is None or hasattr(function, "__wrapped__"):
        return None
    if None in (getattr(function, "__defaults__", None) or ()):
        return None  # Before Python 3.11 such an argument's hint is made Optional.
    found: "dict[str, Any]" = {}
    for name, hint in hints.items():
        found[name] = _named(hint, function) if isinstance(hint, str) else hint
        if not _is_class(found[name]):
            return None
    return found


def _named(hint: str, function: "Any") -> "Any":
    """Give what a hint written as text names, if it is a name; else None."""
    seen = getattr(function, "__globals__", {})
    if getattr(function, "__type_params__", ()):
        return None
    return seen[hint] if hint in seen else getattr(sys.modules["builtins"], hint, None)


def returned_class(function: "Callable[..., Any]") -> "Optional[Callable[..., Any]]":
    """Give the named tuple that a function's return hint names, if it does."""
    hint = plain(hints_of(function)[0].get("return"))
    is_named = _is_class(hint) and issubclass(hint, tuple) and hasattr(hint, "_fields")
    return hint if is_named else None


def outputs_of(function: "Callable[..., Any]") -> "tuple[list[tuple[str, str]], str]":
    """Give names and kinds of a function's outputs, and what is wrong with its return hint."""
    hint = hints_of(function)[0].get("return")
    made = returned_class(function)
    if made is not None:
        named = _typing().get_type_hints(made, include_extras=True)
        wrong = [name for name, each in named.items() if kind_of(each) is None]
        if wrong:
            return [], f"field {wrong[0]!r} of its result must be Files, File, Table or Model"
        return [(name, str(kind_of(each))) for name, each in named.items()], ""
    kind = kind_of(hint)
    if kind is None:
        return [], (
            "it needs a return hint: Files, File, Table or Model, or a NamedTuple of these for"
            " several outputs"
        )
    return [("result", kind)], ""


def from_json(hint: "Any", value: "Any") -> "Any":
    """Turn a checked JSON value into what the hint names: an Enum's member, a date, a tuple."""
    if value is None or hint is None:
        return value
    if getattr(hint, "__metadata__", None) is not None:
        return from_json(hint.__origin__, value)
    if _is_class(hint):
        return _of_class(hint, value)
    typing = _typing()
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or type(hint).__name__ == "UnionType":
        return from_json(next(each for each in inner if each is not _NONE), value)
    if origin in (list, tuple) and inner:
        return origin(from_json(inner[0], each) for each in value)
    return value


def _of_class(hint: "Any", value: "Any") -> "Any":
    dates, enum = sys.modules.get("datetime"), sys.modules.get("enum")  # Else it is none of them.
    if dates is not None and hint in (dates.date, dates.datetime):
        return hint.fromisoformat(value)
    is_enum = enum is not None and issubclass(hint, enum.Enum)
    return hint(value) if is_enum or hint in (float, int) else value
