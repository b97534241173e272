"""Decide, without reading or writing anything: who may do what, and which names are good."""

from collections.abc import Set as AbstractSet

ROLES = ("viewer", "editor", "owner")
"""From the least to the most; each may do all that the one before may."""

SIGNED_IN = "signed_in"
ADMIN = "admin"

PERMISSIONS: dict[str, str] = {
    "profile.read": SIGNED_IN,
    "profile.write": SIGNED_IN,
    "token.read": SIGNED_IN,
    "token.write": SIGNED_IN,
    "project.list": SIGNED_IN,
    "project.create": SIGNED_IN,
    "project.read": "viewer",
    "member.read": "viewer",
    "dataset.read": "viewer",
    "environment.read": "viewer",
    "pipeline.read": "viewer",
    "run.read": "viewer",
    "log.read": "viewer",
    "secret.list": "viewer",
    "dataset.write": "editor",
    "environment.write": "editor",
    "pipeline.write": "editor",
    "pipeline.run": "editor",
    "run.cancel": "editor",
    "secret.write": "editor",
    "project.write": "owner",
    "member.write": "owner",
    "user.read": ADMIN,
    "user.write": ADMIN,
    "job.read": ADMIN,
    "job.write": ADMIN,
    "system.read": ADMIN,
    "site_log.read": ADMIN,
    "setting.write": ADMIN,
}
"""The one table of permissions: the least role in the project, everyone signed in, or the site's
administrators."""

ADMIN_IN_PROJECTS = frozenset(
    {"project.read", "project.write", "member.read", "member.write", "log.read"}
)
"""What a site administrator may do in a project without being a member: keep it in order. To see
its data they add themselves as a member, which the project's log shows."""

_ALLOWED_IN_ARCHIVE = frozenset({"project.write", "member.write", "run.cancel"})


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
    if scopes is None:
        return True
    return permission in scopes or f"{permission.split('.', maxsplit=1)[0]}.*" in scopes


def is_refused_in_archive(permission: str) -> bool:
    """Decide whether an archived project refuses this: all that changes it but setting it right."""
    is_reading = permission.endswith((".read", ".list"))
    return not is_reading and permission not in _ALLOWED_IN_ARCHIVE
