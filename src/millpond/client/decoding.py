"""Turn JSON back into the rooms' frozen values by their type hints."""

import dataclasses
import enum
import types
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from millpond.client.faults import ServerDefectError

T = TypeVar("T")


def decode(kind: type[T], data: Any) -> T:
    """Make a ``kind`` from JSON; fields that this client does not know are left out.

    Raises:
        ServerDefectError: a field that the value needs is missing or of another type, so that
            server and client are of versions that do not fit.
    """
    try:
        return cast("T", _decode(kind, data))
    except (KeyError, TypeError, ValueError) as fault:
        raise ServerDefectError(
            f"The server's answer is not a {getattr(kind, '__name__', kind)}: {fault!s}.",
            next_step="Use a client and a server of the same version: millpond doctor shows both.",
        ) from fault


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _decode(kind: Any, data: Any) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _decode_union(get_args(kind), data)
    if origin in (list, tuple, dict, frozenset, set, Sequence, Mapping):
        return _decode_container(origin, get_args(kind), data)
    if not isinstance(kind, type) or origin is not None:
        return data  # Any, a Literal or a type variable: taken as it came.
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data)
    return _decode_plain(kind, data)


def _decode_plain(kind: type, data: Any) -> Any:
    if issubclass(kind, (datetime, date)):
        return kind.fromisoformat(data)
    if issubclass(kind, enum.Enum):
        return kind(data)
    if kind not in (int, float, str, bool):
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if type(data) is not kind:
        msg = f"{data!r} is no {kind.__name__}"
        raise TypeError(msg)
    return data


def _decode_union(kinds: Sequence[Any], data: Any) -> Any:
    if data is None and type(None) in kinds:
        return None
    fault: Exception | None = None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _decode(kind, data)
        except (KeyError, TypeError, ValueError) as one:
            fault = one
    msg = f"{data!r} fits none of {kinds}"
    raise TypeError(msg) from fault


def _decode_container(origin: Any, args: Sequence[Any], data: Any) -> Any:
    if origin in (dict, Mapping):
        inner = args[1] if len(args) > 1 else Any
        return {key: _decode(inner, value) for key, value in dict(data).items()}
    if isinstance(data, str) or not isinstance(data, Sequence):
        msg = f"{data!r} is no list"
        raise TypeError(msg)
    if origin is tuple and args and args[-1] is not Ellipsis:
        return tuple(_decode(kind, item) for kind, item in zip(args, data, strict=True))
    inner = args[0] if args else Any
    made = [_decode(inner, item) for item in data]
    return made if origin in (list, Sequence) else origin(made)


def _decode_dataclass(kind: type, data: Any) -> Any:
    if not isinstance(data, Mapping):
        msg = f"{data!r} is no object"
        raise TypeError(msg)
    hints = _hints(kind)
    known: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if not field.init:
            continue
        if field.name in data:
            known[field.name] = _decode(hints[field.name], data[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            msg = f"the field {field.name!r} is missing"
            raise KeyError(msg)
    return kind(**known)
