"""Decide, without reading or writing anything: who may do what, and which names are good."""

import re
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

from millpond.ground.address import RESERVED
from millpond.ground.errors import Fault, InvalidError

ROLES = ("viewer", "editor", "owner")
"""From the least to the most; each may do all that the one before may."""

SIGNED_IN = "signed_in"
ADMIN = "admin"

PERMISSIONS: dict[str, str] = {
    "profile.read": SIGNED_IN,
    "profile.write": SIGNED_IN,
    "token.read": SIGNED_IN,
    "token.write": SIGNED_IN,
    "checkpoint.make": SIGNED_IN,
    "project.list": SIGNED_IN,
    "project.create": SIGNED_IN,
    "project.read": "viewer",
    "project.leave": "viewer",
    "member.read": "viewer",
    "dataset.read": "viewer",
    "environment.read": "viewer",
    "pipeline.read": "viewer",
    "preset.read": "viewer",
    "run.read": "viewer",
    "log.read": "viewer",
    "secret.list": "viewer",
    "usage.read": "viewer",
    "dataset.write": "editor",
    "environment.write": "editor",
    "pipeline.write": "editor",
    "pipeline.run": "editor",
    "preset.write": "editor",
    "run.cancel": "editor",
    "secret.write": "editor",
    "project.write": "owner",
    "member.write": "owner",
    "user.read": ADMIN,
    "user.write": ADMIN,
    "job.read": ADMIN,
    "job.write": ADMIN,
    "node.read": ADMIN,
    "node.write": ADMIN,
    "system.read": ADMIN,
    "monitor.read": ADMIN,
    "site_log.read": ADMIN,
    "log_key.write": ADMIN,
    "setting.write": ADMIN,
}
"""The one table of permissions: the least role in the project, everyone signed in, or the site's
administrators."""

ADMIN_IN_PROJECTS = frozenset(
    {"project.read", "project.write", "member.read", "member.write", "log.read"}
)
"""What a site administrator may do in a project without being a member: keep it in order. To see
its data they add themselves as a member, which the project's log shows."""

_IN_EVERY_SCOPE = frozenset({"profile.read"})  # A token may always ask whose it is.
_ALLOWED_IN_ARCHIVE = frozenset({"project.write", "project.leave", "member.write", "run.cancel"})


def needs_project(permission: str) -> bool:
    """Tell whether a permission is asked for within a project."""
    return PERMISSIONS[permission] in ROLES


def is_allowed_in_role(permission: str, role: str, *, is_admin: bool) -> bool:
    """Decide whether a role in a project, empty for none, is enough."""
    if is_admin and permission in ADMIN_IN_PROJECTS:
        return True
    return role in ROLES and ROLES.index(role) >= ROLES.index(PERMISSIONS[permission])


def is_allowed_on_site(permission: str, *, is_admin: bool) -> bool:
    """Decide whether someone signed in may do something outside of projects."""
    return PERMISSIONS[permission] == SIGNED_IN or is_admin


def is_in_scopes(permission: str, scopes: AbstractSet[str] | None) -> bool:
    """Decide whether a token's scopes, None for all, hold a permission."""
    if scopes is None or permission in _IN_EVERY_SCOPE:
        return True
    return permission in scopes or f"{permission.split('.', maxsplit=1)[0]}.*" in scopes


def is_refused_in_archive(permission: str) -> bool:
    """Decide whether an archived project refuses this: all that changes it but setting it right."""
    is_reading = permission.endswith((".read", ".list"))
    return not is_reading and permission not in _ALLOWED_IN_ARCHIVE


def are_scopes_within(wanted: AbstractSet[str] | None, own: AbstractSet[str] | None) -> bool:
    """Decide whether a token made with another would allow no more than that one."""
    if own is None:
        return True
    return wanted is not None and all(
        is_in_scopes(permission, own)
        for permission in PERMISSIONS
        if is_in_scopes(permission, wanted)
    )


# Names and passwords -----------------------------------------------------------------------------

PASSWORD_LENGTH_LEAST = 10
PASSWORD_LENGTH_MOST = 1000
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_SECRET_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_RESERVED = frozenset({"system", "site", "me", "nobody", "anonymous", "all", "missing"}) | RESERVED
_COMMON = frozenset(
    {
        "1234567890", "0123456789", "0987654321", "1111111111", "0000000000", "1q2w3e4r5t",
        "1qaz2wsx3edc", "administrator", "changeme123", "iloveyou123", "letmein1234",
        "millpond123", "millpondmillpond", "password01", "password12", "password123",
        "password1234", "passwordpassword", "qwerty1234", "qwerty12345", "qwertyuiop",
        "qwertyuiop123", "welcome1234", "welcome123", "zaq12wsxcde3", "abcdefghij", "q1w2e3r4t5",
    }
)  # fmt: skip


def faults_of_name(field: str, name: str, most: int) -> list[Fault]:
    """Say what is wrong with the name of a user or project, which stands in addresses."""
    faults = []
    if not 1 <= len(name) <= most:
        faults.append(Fault(field, f"has {len(name)} characters; 1 to {most} are allowed"))
    if not _NAME.fullmatch(name):
        faults.append(
            Fault(
                field,
                "may hold a to z, 0 to 9, dot, dash and underscore, and begins and ends with a"
                " letter or digit",
            )
        )
    if name in _RESERVED:
        faults.append(Fault(field, f"{name!r} is kept for Millpond itself"))
    return faults


def faults_of_secret_name(name: str) -> list[Fault]:
    """Say what is wrong with the name of a secret, which programs see as a variable."""
    if len(name) <= 80 and _SECRET_NAME.fullmatch(name):  # noqa: PLR2004 - said in the sentence.
        return []
    return [
        Fault("name", "is at most 80 of A to Z, 0 to 9 and underscore, and begins with a letter")
    ]


def faults_of_email(email: str | None) -> list[Fault]:
    """Say what is wrong with an address for mail; none is fine."""
    if email is None or (len(email) <= 254 and _EMAIL.fullmatch(email)):  # noqa: PLR2004 - RFC 5321.
        return []
    return [Fault("email", f"{email!r} is no address for mail")]


def faults_of_password(name: str, password: str) -> list[Fault]:
    """Say what is wrong with a new password, without repeating it."""
    faults = []
    if not PASSWORD_LENGTH_LEAST <= len(password) <= PASSWORD_LENGTH_MOST:
        faults.append(
            Fault(
                "password",
                f"has {len(password)} characters; {PASSWORD_LENGTH_LEAST} to"
                f" {PASSWORD_LENGTH_MOST} are allowed",
            )
        )
    plain = password.casefold()
    if name and plain.replace(name, "").strip("0123456789 .-_!") == "":
        faults.append(Fault("password", "is the user's name, or little more"))
    if plain in _COMMON or len(set(plain)) <= 2:  # noqa: PLR2004 - one or two characters, repeated.
        faults.append(Fault("password", "is one of the first that anybody would try"))
    return faults


def faults_of_scopes(scopes: Sequence[str] | None) -> list[Fault]:
    """Say which scopes name no permission."""
    nouns = {permission.split(".", 1)[0] for permission in PERMISSIONS}
    return [
        Fault(f"scopes.{place}", f"{scope!r} is no permission, nor a noun such as `dataset.*`")
        for place, scope in enumerate(scopes or ())
        if scope not in PERMISSIONS and not (scope.endswith(".*") and scope[:-2] in nouns)
    ]


def refuse(what: str, faults: Iterable[Fault]) -> None:
    """Raise all faults at once, if there are any."""
    found = list(faults)
    if found:
        said = "; ".join(f"{fault.field} {fault.message}" for fault in found)
        raise InvalidError(
            f"{what} cannot be taken as it is: {said}.",
            next_step="Correct what is named and send it again; nothing was changed.",
            faults=found,
        )


# Signing in --------------------------------------------------------------------------------------

SESSION_LIFE = timedelta(days=14)
TOKEN_DAYS_MOST = 366
SIGN_IN_WINDOW = timedelta(minutes=15)
FAULTS_PER_PAIR, FAULTS_PER_ADDRESS, FAULTS_PER_NAME = 8, 50, 100


@dataclass(frozen=True)
class Faults:
    """Wrong sign-ins of the last quarter of an hour.

    Attributes:
        of_pair: with this name from this address.
        of_address: from this address, with any name.
        of_name: with this name, from any address.
    """

    of_pair: int
    of_address: int
    of_name: int


def are_too_many(faults: Faults) -> bool:
    """Decide whether another try must wait.

    The limit per name over all addresses is wide, so that a stranger's guessing cannot easily
    keep the right person out; the one per name and address stops the guessing itself.
    """
    return (
        faults.of_pair >= FAULTS_PER_PAIR
        or faults.of_address >= FAULTS_PER_ADDRESS
        or faults.of_name >= FAULTS_PER_NAME
    )


def why_refused(
    *, expires_at: datetime, withdrawn_at: datetime | None, is_disabled: bool, now: datetime
) -> str:
    """Say why a token that was good once is refused; empty when it still is good."""
    if withdrawn_at is not None:
        return "The token was withdrawn."
    if is_disabled:
        return "The account is disabled."
    if expires_at <= now:
        return f"The token expired at {expires_at:%Y-%m-%d %H:%M} UTC."
    return ""
