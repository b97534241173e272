"""What may be sent to presets."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class PresetIn(BaseModel):
    """A preset as it is to be; what was there under its name before is replaced.

    Attributes:
        description: what it is for, in a sentence.
        inputs: dataset addresses by input name.
        parameters: values by parameter name.
    """

    model_config = ConfigDict(extra="forbid")

    description: Annotated[str, Field(max_length=500)] = ""
    inputs: Annotated[dict[str, Annotated[str, Field(max_length=100)]], Field(max_length=100)] = {}
    parameters: Annotated[dict[str, Any], Field(max_length=500)] = {}
