"""What may be sent in about forgotten passwords."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class ForgottenRequest(BaseModel):
    """Ask for a link to one's address for mail."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[
        str, Field(min_length=1, max_length=300, description="Name, or address for mail.")
    ]


class ResetRequest(BaseModel):
    """Set a new password with the code of such a link."""

    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, Field(min_length=1, max_length=100)]
    password: Annotated[SecretStr, Field(max_length=1000)]
