"""Decide what a provider's word is worth, and what somebody new is called."""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from millpond.ground.errors import NotAllowedError
from millpond.people.oidc.values import Ask, Claims
from millpond.people.rules import faults_of_email, faults_of_name

VISIT_LIFE = timedelta(minutes=10)
VISITS_PER_ADDRESS = 300
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "Ed25519",
)  # fmt: skip
"""What a provider may sign with: public keys alone, so that nobody signs with what is public."""

_LEEWAY = timedelta(seconds=60)
_SUBJECT_LENGTH, _NAME_LENGTH = 255, 40


def ask_of(browser: str, state: str) -> Ask:
    """Derive what goes along from the browser's secret, so that none of it need be kept."""

    def derive(what: str) -> str:
        made = hmac.new(browser.encode(), f"{what}\n{state}".encode(), "sha256").digest()
        return urlsafe_b64encode(made).rstrip(b"=").decode()

    return Ask(state, derive("nonce"), derive("verifier"))


def challenge_of(verifier: str) -> str:
    """Give what is sent first of a verifier (PKCE, S256)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def check_claims(
    claims: Mapping[str, Any], *, issuer: str, client_id: str, nonce: str, now: datetime
) -> None:
    """Check what a provider has signed.

    Raises:
        NotAllowedError: it is another's word, for somebody else, too old, or for another visit.
    """
    heard = claims.get("aud")
    audience = heard if isinstance(heard, list) else [heard]
    party = claims.get("azp")
    ends, made = _moment(claims.get("exp")), _moment(claims.get("iat"))
    subject = claims.get("sub")
    wrong = {
        "it is another provider's": claims.get("iss") != issuer,
        "it is meant for another client": client_id not in audience
        or (len(audience) > 1 and party != client_id)
        or (party is not None and party != client_id),
        "it has expired": ends is None or ends + _LEEWAY <= now,
        "it was made in the future": made is None or made - _LEEWAY > now,
        "it answers another visit": not isinstance(claims.get("nonce"), str)
        or not hmac.compare_digest(claims["nonce"].encode(errors="replace"), nonce.encode()),
        "it names nobody": not isinstance(subject, str)
        or not 1 <= len(subject) <= _SUBJECT_LENGTH
        or not (subject.isascii() and subject.isprintable()),
    }
    for why, is_so in wrong.items():
        if is_so:
            raise refused(why)


def claims_of(facts: Mapping[str, Any]) -> Claims:
    """Take what is needed of claims that were checked."""

    def text(name: str) -> str:
        value = facts.get(name)
        return value if isinstance(value, str) and value.isprintable() else ""

    email = text("email") if facts.get("email_verified") is True else ""
    is_good = bool(email) and not faults_of_email(email)
    name = text("preferred_username") or text("name")
    return Claims(text("iss"), text("sub"), name, email if is_good else None)


def name_for(claims: Claims, number: int) -> str:
    """Make a good user name of what somebody is called at a provider.

    Args:
        claims: the provider's word.
        number: 1 for the first choice; with others the name ends in it.
    """
    wanted = (claims.name or claims.email or "").partition("@")[0].lower()
    ending = "" if number == 1 else f"-{number}"
    room = _NAME_LENGTH - len(ending)
    name = re.sub(r"[^a-z0-9._-]+", "-", wanted)[:room].strip("._-") or "user"
    if faults_of_name("name", name, _NAME_LENGTH):
        name = f"{name[: room - 5]}-user"
    return name + ending


def refused(why: str) -> NotAllowedError:
    """Say that a provider's word is not taken."""
    return NotAllowedError(
        f"What the provider says is refused: {why}.",
        next_step="Begin again at the page of signing in; if it stays so, tell an administrator.",
    )


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value).astimezone()
    except (OverflowError, OSError, ValueError):
        return None
