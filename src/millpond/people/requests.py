"""What may be sent in about people and projects."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Role = Literal["owner", "editor", "viewer"]
_Name = Annotated[str, Field(min_length=1, max_length=100)]
_Password = Annotated[SecretStr, Field(max_length=1000)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SetupRequest(_Request):
    """Make the first administrator with the one-time code."""

    code: Annotated[str, Field(max_length=100)]
    name: _Name
    password: _Password


class SignInRequest(_Request):
    """Sign in with a name and a password."""

    name: _Name
    password: _Password


class LocalSignInRequest(_Request):
    """Sign in as an administrator by proof that the caller can read the server's key file.

    ``proof`` is ``people.values.local_proof(key, challenge, name)``. An empty name is the first
    administrator.
    """

    challenge: Annotated[str, Field(max_length=200)]
    name: Annotated[str, Field(max_length=100)] = ""
    proof: Annotated[str, Field(max_length=200)]


class PasswordRequest(_Request):
    """Change one's own password; ``old`` is left out when none was set before."""

    old: _Password | None = None
    new: _Password


class NewPasswordRequest(_Request):
    """Set somebody's password."""

    new: _Password


class ProfileRequest(_Request):
    """Change one's own profile."""

    email: Annotated[str, Field(max_length=300)] | None


class UserRequest(_Request):
    """Make a user; without a password they cannot sign in until one is set."""

    name: _Name
    password: _Password | None = None
    email: Annotated[str, Field(max_length=300)] | None = None
    is_admin: bool = False


class UserChange(_Request):
    """Change a user; what is left out stays."""

    email: Annotated[str, Field(max_length=300)] | None = None
    is_admin: bool | None = None
    is_disabled: bool | None = None


class TokenRequest(_Request):
    """Make an API token."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    scopes: Annotated[list[str], Field(max_length=100)] | None = None
    expires_at: datetime | None = None


class ProjectRequest(_Request):
    """Make a project."""

    name: _Name
    description: Annotated[str, Field(max_length=2000)] = ""


class ProjectChange(_Request):
    """Change a project; what is left out stays.

    With another name, addresses that hold the old one stop working.
    """

    name: _Name | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    is_archived: bool | None = None


class MemberRequest(_Request):
    """Give someone a role in a project."""

    role: Role


class SecretRequest(_Request):
    """Set a secret; it is never shown again."""

    value: Annotated[SecretStr, Field(min_length=1, max_length=65_536)]
