"""What the presets hand out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A named filling of a pipeline's form; it need not be whole.

    Attributes:
        parameters: values by parameter name; defaults or the user fill the rest.
        inputs: dataset addresses by input name, as they were given: ``NAME`` stays the newest.
    """

    id: str
    pipeline: str
    name: str
    description: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, str]
    created_at: datetime
    created_by: str
    changed_at: datetime
    changed_by: str
