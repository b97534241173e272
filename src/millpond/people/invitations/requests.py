"""What may be sent in about invitations and signing up."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from millpond.people.requests import Role

_Email = Annotated[str, Field(max_length=300)]
_Days = Annotated[int, Field(ge=1, le=90)]
_Code = Annotated[str, Field(min_length=1, max_length=200)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class InvitationRequest(_Request):
    """Invite somebody to make an account."""

    email: _Email | None = None
    days: _Days = 7


class ProjectInvitationRequest(_Request):
    """Invite somebody into a project."""

    role: Role = "viewer"
    email: _Email | None = None
    days: _Days = 7


class SignUpRequest(_Request):
    """Make oneself an account; the code is left out where anybody may."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    password: Annotated[SecretStr, Field(max_length=1000)]
    email: _Email | None = None
    invitation: Annotated[str, Field(max_length=200)] | None = None


class AcceptRequest(_Request):
    """Join a project with the account that one has."""

    code: _Code
