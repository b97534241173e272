"""Millpond: the kit for pipelines (step, pipeline, the kinds of data, Param) and Client."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millpond.client.client import Client as Client
    from millpond.kit import File as File
    from millpond.kit import Files as Files
    from millpond.kit import Model as Model
    from millpond.kit import Param as Param
    from millpond.kit import Table as Table
    from millpond.kit import pipeline as pipeline
    from millpond.kit import step as step

_PLACES = {"Client": "millpond.client.client"}
__all__ = ["Client", "File", "Files", "Model", "Param", "Table", "pipeline", "step"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that the command line starts fast."""
    if name not in __all__:
        raise AttributeError(f"module 'millpond' has no attribute {name!r}")
    value = getattr(import_module(_PLACES.get(name, "millpond.kit")), name)
    globals()[name] = value
    return value
