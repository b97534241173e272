"""What type hints of steps and pipelines say: kinds of data, forms, names of outputs."""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Optional

from .kinds import File, Files, Model, Table

_KINDS = {Files: "files", File: "file", Table: "table", Model: "model"}
_FOREIGN = {("pyarrow", "Table"): "arrow", ("pandas", "DataFrame"): "pandas"}


def plain(hint: Any) -> Any:
    """Give a hint without ``Annotated`` and ``Optional`` around it."""
    while getattr(hint, "__metadata__", None) is not None:
        hint = hint.__origin__
    if typing.get_origin(hint) is typing.Union or type(hint).__name__ == "UnionType":
        inner = [each for each in typing.get_args(hint) if each is not type(None)]
        if len(inner) == 1:
            return plain(inner[0])
    return hint


def form_of(hint: Any) -> str:
    """Give in which form a step wants a table: ``rows``, ``arrow`` or ``pandas``; else empty."""
    hint = plain(hint)
    if hint is Table:
        return "rows"
    module = getattr(hint, "__module__", "").partition(".")[0]
    return _FOREIGN.get((module, getattr(hint, "__name__", "")), "")


def kind_of(hint: Any) -> Optional[str]:
    """Give the kind of data that a hint names; None when it is a parameter's hint.

    ``Iterable``, ``Iterator`` and ``list`` of dicts are tables, of Files none.
    """
    hint = plain(hint)
    if isinstance(hint, type) and hint in _KINDS:
        return _KINDS[hint]
    if form_of(hint):
        return "table"
    inner = [plain(each) for each in typing.get_args(hint)]
    if len(inner) >= 1 and (inner[0] is dict or typing.get_origin(inner[0]) is dict):
        return "table"
    return None


@functools.lru_cache(None)
def hints_of(function: "Callable[..., Any]") -> "tuple[dict[str, Any], str]":
    """Give a function's hints and what is wrong with them, empty when nothing is."""
    try:
        return typing.get_type_hints(function, include_extras=True), ""
    except Exception as fault:  # noqa: BLE001 - evaluating users' hints may raise anything.
        return {}, f"the type hints can't be read: {type(fault).__name__}: {fault}"


def returned_class(function: "Callable[..., Any]") -> "Optional[Callable[..., Any]]":
    """Give the named tuple that a function's return hint names, if it does."""
    hint = plain(hints_of(function)[0].get("return"))
    is_named = isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")
    return hint if is_named else None


def outputs_of(function: "Callable[..., Any]") -> "tuple[list[tuple[str, str]], str]":
    """Give names and kinds of a function's outputs, and what is wrong with its return hint."""
    hint = hints_of(function)[0].get("return", inspect.Signature.empty)
    made = returned_class(function)
    if made is not None:
        named = typing.get_type_hints(made, include_extras=True)
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
