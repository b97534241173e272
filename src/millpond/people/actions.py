"""What can be done with projects, their members and secrets; and may X do Y?"""

from collections.abc import Sequence
from dataclasses import replace

from millpond.audit.actions import note
from millpond.ground.actor import SYSTEM, Actor
from millpond.ground.errors import ConflictError, NotAllowedError, NotFoundError
from millpond.ground.ids import new_id
from millpond.ground.page import PAGE_LIMIT, Page, decode_cursor, make_page
from millpond.people import rules, store
from millpond.people.values import Member, Project, ProjectFilter, Secret
from millpond.people.vault import SecretBox
from millpond.storage.database import Transaction

PROJECT_NAME_LENGTH = 60


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
        raise _archived(found)
    return found


def _archived(found: Project) -> ConflictError:
    return ConflictError(
        f"Project {found.name!r} is archived and takes no changes.",
        next_step=f"An owner can bring it back: `millpond project revive {found.name}`.",
        project=found.name,
    )


def only_allowed(
    tx: Transaction, actor: Actor, permission: str, project_ids: Sequence[str]
) -> list[str]:
    """Give those of some projects in which the actor may do this, in the order given."""
    if not rules.is_in_scopes(permission, actor.scopes):
        return []
    roles = store.roles_of(tx, actor.user_id, project_ids)
    return [
        project_id
        for project_id in project_ids
        if rules.is_allowed_in_role(permission, roles.get(project_id, ""), is_admin=actor.is_admin)
    ]


def permissions_in(actor: Actor, project: Project) -> frozenset[str]:
    """Give what the actor may do in a project that they were given, to show no more than that."""
    return frozenset(
        permission
        for permission in rules.PERMISSIONS
        if rules.needs_project(permission)
        and rules.is_allowed_in_role(permission, project.role, is_admin=actor.is_admin)
        and rules.is_in_scopes(permission, actor.scopes)
        and not (project.is_archived and rules.is_refused_in_archive(permission))
    )


def permissions_on_site(actor: Actor) -> frozenset[str]:
    """Give what the actor may do outside of projects, to show no more than that."""
    return frozenset(
        permission
        for permission in rules.PERMISSIONS
        if not rules.needs_project(permission)
        and rules.is_allowed_on_site(permission, is_admin=actor.is_admin)
        and rules.is_in_scopes(permission, actor.scopes)
    )


def _check_scopes(actor: Actor, permission: str) -> None:
    if not rules.is_in_scopes(permission, actor.scopes):
        raise NotAllowedError(
            f"The token you came with is not for {permission}.",
            next_step="Use a token whose scopes hold it: `millpond token new --scope"
            f" {permission}`, or sign in with your password.",
            permission=permission,
            scopes=sorted(actor.scopes or ()),
        )


# Projects --------------------------------------------------------------------------------------


def add_project(tx: Transaction, actor: Actor, name: str, description: str = "") -> Project:
    """Make a project, whose owner the actor becomes.

    Raises:
        InvalidError: the name is not good.
        ConflictError: the name is taken, perhaps by a project that the actor cannot see.
    """
    require(tx, actor, "project.create")
    rules.refuse("The project", rules.faults_of_name("name", name, PROJECT_NAME_LENGTH))
    made = Project(new_id("project"), name, description, is_archived=False, made_at=tx.now, role="")
    if not store.add_project(tx, made):
        raise _taken(name)
    if actor != SYSTEM:
        store.set_role(tx, made.id, actor.user_id, "owner")
        made = replace(made, role="owner")
    note(tx, actor, "project.added", f"project/{name}", project_id=made.id, after=_facts(made))
    return made


def list_projects(
    tx: Transaction,
    actor: Actor,
    asked: ProjectFilter | None = None,
    *,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
) -> Page[Project]:
    """Give one's projects in the order of their names; an administrator may ask for all."""
    require(tx, actor, "project.list")
    asked = asked or ProjectFilter()
    if asked.is_all:
        require(tx, actor, "system.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    found = store.list_projects(tx, actor.user_id, asked, after=after, limit=limit + 1)
    return make_page(found, limit, lambda project: [project.name])


def change_project(
    tx: Transaction,
    actor: Actor,
    name: str,
    *,
    new_name: str | None = None,
    description: str | None = None,
    is_archived: bool | None = None,
) -> Project:
    """Change a project; what is None stays.

    All else knows it by its id, so a new name leaves it whole; addresses that hold the old name
    stop working, and the record keeps it.

    Raises:
        InvalidError: the new name is not good.
        ConflictError: it is archived, and stays so; or the new name is taken.
    """
    before = open_project(tx, actor, name, "project.write")
    store.lock_project(tx, before.id)
    if before.is_archived and is_archived is not False:
        raise _archived(before)
    if new_name is not None and new_name != name:
        rules.refuse("The project", rules.faults_of_name("name", new_name, PROJECT_NAME_LENGTH))
        if not store.is_free(tx, new_name):
            raise _taken(new_name)
    wanted = {"name": new_name, "description": description, "is_archived": is_archived}
    values = {field: value for field, value in wanted.items() if value is not None}
    if values:
        store.change_project(tx, before.id, **values)
    after = open_project(tx, actor, new_name or name, "project.write")
    note(
        tx, actor, "project.changed", f"project/{name}",
        project_id=before.id, before=_facts(before), after=_facts(after),
    )  # fmt: skip
    return after


def _taken(name: str) -> ConflictError:
    return ConflictError(
        f"The name {name!r} is taken.", next_step="Choose another name.", name=name
    )


def _facts(found: Project) -> dict[str, object]:
    return {
        "name": found.name,
        "description": found.description,
        "is_archived": found.is_archived,
    }


# Members ---------------------------------------------------------------------------------------


def list_members(
    tx: Transaction,
    actor: Actor,
    project: str,
    *,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
) -> Page[Member]:
    """Give a project's members in the order of their names."""
    found = open_project(tx, actor, project, "member.read")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    members = store.list_members(tx, found.id, after=after, limit=limit + 1)
    return make_page(members, limit, lambda member: [member.user])


def set_member(tx: Transaction, actor: Actor, project: str, user: str, role: str) -> Member:
    """Give someone a role in a project, or another one.

    Raises:
        NotFoundError: there is no such user.
        ConflictError: the project would lose its last owner.
    """
    found = open_project(tx, actor, project, "member.write")
    store.lock_project(tx, found.id)
    user_id = _user_id(tx, user)
    before = store.role_of(tx, found.id, user_id)
    store.set_role(tx, found.id, user_id, role)
    _refuse_without_owner(tx, found, user)
    note(
        tx, actor, "member.changed" if before else "member.added", f"member/{user}",
        project_id=found.id, before=before, after=role,
    )  # fmt: skip
    return store.member(tx, found.id, user_id)


def remove_member(tx: Transaction, actor: Actor, project: str, user: str) -> None:
    """Take someone's role in a project away.

    Raises:
        NotFoundError: they are no member.
        ConflictError: the project would lose its last owner.
    """
    found = open_project(tx, actor, project, "member.write")
    store.lock_project(tx, found.id)
    user_id = _user_id(tx, user)
    before = store.role_of(tx, found.id, user_id)
    if before is None:
        raise NotFoundError(
            f"{user!r} is no member of project {project!r}.",
            next_step=f"List the members with `millpond member list {project}`.",
            user=user,
        )
    store.remove_member(tx, found.id, user_id)
    _refuse_without_owner(tx, found, user)
    note(tx, actor, "member.removed", f"member/{user}", project_id=found.id, before=before)


def leave_project(tx: Transaction, actor: Actor, project: str) -> None:
    """Give one's own role in a project up, whichever it is.

    Raises:
        NotFoundError: one is no member.
        ConflictError: the project would lose its last owner.
    """
    found = open_project(tx, actor, project, "project.leave")
    store.lock_project(tx, found.id)
    store.remove_member(tx, found.id, actor.user_id)
    _refuse_without_owner(tx, found, actor.name)
    note(
        tx, actor, "member.left", f"member/{actor.name}", project_id=found.id, before=found.role
    )  # fmt: skip


def _user_id(tx: Transaction, name: str) -> str:
    user_id = store.find_user_id(tx, name)
    if user_id is None:
        raise NotFoundError(
            f"There is no user {name!r}.",
            next_step="Check the name, or ask an administrator to make the account.",
            user=name,
        )
    return user_id


def _refuse_without_owner(tx: Transaction, found: Project, user: str) -> None:
    if store.count_owners(tx, found.id) == 0:
        raise ConflictError(
            f"{user!r} is the last owner of project {found.name!r}.",
            next_step="Make someone else an owner first.",
            project=found.name,
        )


# Secrets ---------------------------------------------------------------------------------------


def set_secret(
    tx: Transaction, actor: Actor, project: str, name: str, value: str, *, box: SecretBox
) -> Secret:
    """Keep a secret, encrypted; its value is never shown again.

    Raises:
        InvalidError: the name cannot be a variable's.
    """
    found = open_project(tx, actor, project, "secret.write")
    rules.refuse("The secret", rules.faults_of_secret_name(name))
    sealed = box.seal(found.id, name, value)
    kept = store.set_secret(tx, found.id, name, sealed, actor.name)
    note(tx, actor, "secret.set", f"secret/{name}", project_id=found.id)
    return kept


def list_secrets(
    tx: Transaction,
    actor: Actor,
    project: str,
    *,
    cursor: str | None = None,
    limit: int = PAGE_LIMIT,
) -> Page[Secret]:
    """Give the names of a project's secrets."""
    found = open_project(tx, actor, project, "secret.list")
    key = decode_cursor(cursor, str)
    after = str(key[0]) if key else ""
    secrets = store.list_secrets(tx, found.id, after=after, limit=limit + 1)
    return make_page(secrets, limit, lambda secret: [secret.name])


def remove_secret(tx: Transaction, actor: Actor, project: str, name: str) -> None:
    """Forget a secret."""
    found = open_project(tx, actor, project, "secret.write")
    if not store.remove_secret(tx, found.id, name):
        raise _no_secrets([name])
    note(tx, actor, "secret.removed", f"secret/{name}", project_id=found.id)


def secret_values(
    tx: Transaction, project_id: str, names: Sequence[str], *, box: SecretBox
) -> dict[str, str]:
    """Give secrets' values for a task that was granted them; for tasks only.

    Raises:
        NotFoundError: one of them is not there.
        ConflictError: one cannot be opened with this installation's key.
    """
    sealed = store.sealed_secrets(tx, project_id, names)
    if missing := [name for name in names if name not in sealed]:
        raise _no_secrets(missing)
    return {name: box.open(project_id, name, sealed[name]) for name in names}


def missing_secrets(tx: Transaction, project_id: str, names: Sequence[str]) -> list[str]:
    """Give those of the names that are no secret of a project, sorted; for other rooms."""
    return sorted(set(names) - store.sealed_secrets(tx, project_id, names).keys())


def _no_secrets(names: Sequence[str]) -> NotFoundError:
    return NotFoundError(
        f"The project has no secret {', '.join(names)}.",
        next_step="Set it with `millpond secret set`, or list what there is with"
        " `millpond secret list`.",
        secrets=list(names),
    )
