"""Kit: what users' code imports as ``millpond`` inside the sandbox; the standard library alone."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .declare import pipeline as pipeline
    from .declare import step as step
    from .kinds import File as File
    from .kinds import Files as Files
    from .kinds import Model as Model
    from .kinds import Param as Param
    from .kinds import Table as Table

__all__ = ["File", "Files", "Model", "Param", "Table", "pipeline", "step"]


def __getattr__(name: str) -> "Any":
    """Load a public name when it is first asked for: every new sandbox pays for what is loaded."""
    if name in ("pipeline", "step"):
        from . import declare as place
    elif name in __all__:
        from . import kinds as place  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(place, name)
    return value
