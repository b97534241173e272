"""What may be sent to the environments room."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class EnvironmentIn(BaseModel):
    """A new version of an environment, which is made when it is missing.

    Attributes:
        name: the environment's name.
        requirements: packages, one a line, as in a requirements file; empty for the standard
            library alone.
        upgrade: lock again with today's packages although the text is the same.
        build_from_source: names of packages that are built from source, in the sandbox; all
            others come as wheels.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    requirements: Annotated[str, Field(max_length=100_000)]
    upgrade: bool = False
    build_from_source: Annotated[list[str], Field(max_length=50)] = []
