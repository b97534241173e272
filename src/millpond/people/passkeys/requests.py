"""What a browser sends of a passkey, as WebAuthn writes it in JSON."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

_Small = Annotated[str, Field(max_length=1400, pattern=r"^[A-Za-z0-9_-]*$")]
_Large = Annotated[str, Field(max_length=100_000, pattern=r"^[A-Za-z0-9_-]*$")]


class _Credential(BaseModel):
    id: _Small
    rawId: _Small  # noqa: N815 - WebAuthn's name.
    type: Literal["public-key"]


class MadeResponse(BaseModel):
    """What a device says of the passkey that it has made."""

    clientDataJSON: _Large  # noqa: N815 - WebAuthn's name.
    attestationObject: _Large  # noqa: N815 - WebAuthn's name.


class MadeCredential(_Credential):
    """A passkey that was made."""

    response: MadeResponse


class NewPasskeyName(BaseModel):
    """Ask for what a browser needs to make a passkey of this name."""

    name: Annotated[str, Field(max_length=1000)]


class NewPasskeyRequest(NewPasskeyName):
    """Keep a passkey that was made."""

    credential: MadeCredential


class SignedResponse(BaseModel):
    """What a device has signed."""

    clientDataJSON: _Large  # noqa: N815 - WebAuthn's name.
    authenticatorData: _Large  # noqa: N815 - WebAuthn's name.
    signature: _Large
    userHandle: _Small | None = None  # noqa: N815 - WebAuthn's name.


class SignedCredential(_Credential):
    """A passkey that has signed."""

    response: SignedResponse


class PasskeySignInRequest(BaseModel):
    """Sign in with a passkey."""

    credential: SignedCredential
    next: Annotated[str, Field(max_length=2000)] = "/"
