"""WebAuthn's ceremonies: what a browser is asked, and whether its answer holds."""

import json
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm

from millpond.ground.errors import NotSignedInError
from millpond.people.passkeys.requests import MadeCredential, SignedCredential
from millpond.people.passkeys.values import Kept, Made, Place
from millpond.people.values import User

# The library is loaded with the first passkey: it takes a tenth of a second and many megabytes.


def ask_to_make(place: Place, user: User, challenge: bytes, taken: list[str]) -> dict[str, Any]:
    """Give what the browser is asked in order to make a passkey.

    Args:
        place: where it is to be good.
        user: whose it becomes.
        challenge: what the device answers.
        taken: the passkeys that they have; no device makes a second one.
    """
    import webauthn
    from webauthn.helpers import base64url_to_bytes, structs

    options = webauthn.generate_registration_options(
        rp_id=place.name,
        rp_name="Millpond",
        user_id=user.id.encode(),
        user_name=user.name,
        user_display_name=user.name,
        challenge=challenge,
        exclude_credentials=[
            structs.PublicKeyCredentialDescriptor(id=base64url_to_bytes(one)) for one in taken
        ],
        authenticator_selection=structs.AuthenticatorSelectionCriteria(
            resident_key=structs.ResidentKeyRequirement.REQUIRED,  # So that no name need be typed.
            require_resident_key=True,
            user_verification=structs.UserVerificationRequirement.PREFERRED,
        ),
    )
    return _as_json(options)


def check_made(place: Place, sent: MadeCredential, challenge: bytes) -> Made:
    """Check what a device says of the passkey that it has made.

    Raises:
        NotSignedInError: it is for another server or page, or is damaged.
    """
    import webauthn
    from webauthn.helpers import bytes_to_base64url

    try:
        found = webauthn.verify_registration_response(
            credential=sent.model_dump(),
            expected_challenge=challenge,
            expected_rp_id=place.name,
            expected_origin=place.origin,
        )
    except _faults() as fault:
        raise refused(str(fault)) from None
    name = bytes_to_base64url(found.credential_id)
    return Made(name, found.credential_public_key, found.sign_count)


def ask_to_sign(place: Place, challenge: bytes) -> dict[str, Any]:
    """Give what the browser is asked in order to sign in with any passkey of this server."""
    import webauthn

    return _as_json(webauthn.generate_authentication_options(rp_id=place.name, challenge=challenge))


def check_signed(place: Place, sent: SignedCredential, challenge: bytes, kept: Kept) -> int:
    """Check what a passkey has signed; give how often it has signed by now.

    Raises:
        NotSignedInError: it is another's, for another server or page, or a copy's: the count of
            signatures went back.
    """
    import webauthn
    from webauthn.helpers import base64url_to_bytes

    try:
        found = webauthn.verify_authentication_response(
            credential=sent.model_dump(exclude_none=True),
            expected_challenge=challenge,
            expected_rp_id=place.name,
            expected_origin=place.origin,
            credential_public_key=kept.public_key,
            credential_current_sign_count=kept.sign_count,
        )
    except _faults() as fault:
        raise refused(str(fault)) from None
    if sent.response.userHandle and base64url_to_bytes(sent.response.userHandle) != (
        kept.user_id.encode()
    ):
        raise refused("It says that it belongs to somebody else.")
    return found.new_sign_count


def challenge_in(sent: MadeCredential | SignedCredential) -> bytes:
    """Give the challenge that an answer says it answers.

    Raises:
        NotSignedInError: the answer is damaged.
    """
    from webauthn.helpers import base64url_to_bytes, parse_client_data_json

    try:
        return parse_client_data_json(base64url_to_bytes(sent.response.clientDataJSON)).challenge
    except _faults() as fault:
        raise refused(str(fault)) from None


def refused(why: str) -> NotSignedInError:
    """Say that a passkey's answer does not hold."""
    return NotSignedInError(
        f"The passkey was refused: {why[:300].rstrip('.')}.",
        next_step="Try again, or sign in another way.",
    )


def _faults() -> tuple[type[Exception], ...]:
    from webauthn.helpers.exceptions import WebAuthnException

    return (WebAuthnException, UnsupportedAlgorithm, ValueError, LookupError, TypeError)


def _as_json(options: Any) -> dict[str, Any]:
    import webauthn

    made: dict[str, Any] = json.loads(webauthn.options_to_json(options))
    return made
