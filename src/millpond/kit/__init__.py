"""Kit: what users' code imports as ``millpond`` inside the sandbox; the standard library alone."""

from .declare import pipeline, step
from .kinds import File, Files, Model, Param, Table

__all__ = ["File", "Files", "Model", "Param", "Table", "pipeline", "step"]
