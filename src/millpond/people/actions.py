"""May X do Y? The questions that every other room asks."""

from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, NotAllowedError, NotFoundError
from millpond.people import rules, store
from millpond.people.values import Project
from millpond.storage.database import Transaction


def require(tx: Transaction, actor: Actor, permission: str, project_id: str | None = None) -> None:
    """Refuse unless the actor may do this, on the site or in the project with this id.

    Raises:
        NotFoundError: there is no such project, or it is none of the actor's.
        NotAllowedError: the role or the token's scopes lack the permission.
        ConflictError: the project is archived and this would change it.
    """
    if rules.needs_project(permission):
        if project_id is None:
            raise ValueError(f"{permission} is asked for within a project")
        found = store.find_project(tx, actor.user_id, project_id=project_id)
        _check_in_project(actor, permission, found, project_id)
        return
    if not rules.is_allowed_on_site(permission, is_admin=actor.is_admin):
        raise NotAllowedError(
            f"This needs a site administrator ({permission}).",
            next_step="Ask a site administrator to do it.",
            permission=permission,
        )
    _check_scopes(actor, permission)


def open_project(tx: Transaction, actor: Actor, name: str, permission: str) -> Project:
    """Give the project of this name, if the actor may do this in it.

    Raises:
        NotFoundError: there is no such project, or it is none of the actor's.
        NotAllowedError: the role or the token's scopes lack the permission.
        ConflictError: the project is archived and this would change it.
    """
    found = store.find_project(tx, actor.user_id, name=name)
    return _check_in_project(actor, permission, found, name)


def _check_in_project(
    actor: Actor, permission: str, found: Project | None, asked_for: str
) -> Project:
    is_system = actor == SYSTEM
    if found is None or not (
        is_system or rules.is_allowed_in_role("project.read", found.role, is_admin=actor.is_admin)
    ):
        raise NotFoundError(
            f"There is no project {asked_for!r} that you are a member of.",
            next_step="List your projects with `millpond project list`, or ask an owner of the"
            " project to add you.",
            project=asked_for,
        )
    if not is_system and not rules.is_allowed_in_role(
        permission, found.role, is_admin=actor.is_admin
    ):
        least = rules.PERMISSIONS[permission]
        raise NotAllowedError(
            f"This needs the role {least} in project {found.name!r} ({permission}); you are"
            f" {found.role or 'no member'}.",
            next_step=f"Ask an owner of the project to make you {least}.",
            permission=permission,
            role=found.role,
            project=found.name,
        )
    _check_scopes(actor, permission)
    if found.is_archived and rules.is_refused_in_archive(permission):
        raise ConflictError(
            f"Project {found.name!r} is archived and takes no changes.",
            next_step=f"An owner can bring it back: `millpond project unarchive {found.name}`.",
            project=found.name,
        )
    return found


def _check_scopes(actor: Actor, permission: str) -> None:
    if not rules.is_in_scopes(permission, actor.scopes):
        raise NotAllowedError(
            f"The token you came with is not for {permission}.",
            next_step="Use a token whose scopes hold it: `millpond token new --scope"
            f" {permission}`, or sign in with your password.",
            permission=permission,
            scopes=sorted(actor.scopes or ()),
        )
