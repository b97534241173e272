"""Presets over the SDK: named fillings of a pipeline's form."""

from collections.abc import Mapping
from typing import Any

from millpond.client.decoding import decode
from millpond.client.room import Room
from millpond.pipelines.presets.values import Preset


class PresetsRoom(Room):
    """A project's presets, each of one pipeline."""

    def set(
        self,
        pipeline: str,
        name: str,
        inputs: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        description: str = "",
        project: str | None = None,
    ) -> Preset:
        """Keep a filling of a pipeline's form under a name; what was there is replaced.

        It may leave fields open: whoever runs it fills them, or defaults do.

        Raises:
            InvalidError: something does not fit the form; every fault is named.
        """
        body = {
            "description": description,
            "inputs": dict(inputs or {}),
            "parameters": dict(parameters or {}),
        }
        path = self._in(project, "pipelines", pipeline, "presets", name)
        return decode(Preset, self._transport.put(path, body))

    def list(self, pipeline: str, *, project: str | None = None) -> list[Preset]:
        """List a pipeline's presets by name."""
        path = self._in(project, "pipelines", pipeline, "presets")
        return list(self._transport.pages(Preset, path))

    def get(self, pipeline: str, name: str, *, project: str | None = None) -> Preset:
        """Show a preset."""
        path = self._in(project, "pipelines", pipeline, "presets", name)
        return self._transport.read(Preset, path)

    def remove(self, pipeline: str, name: str, *, project: str | None = None) -> None:
        """Remove a preset; runs that were started with it stay."""
        self._transport.delete(self._in(project, "pipelines", pipeline, "presets", name))
