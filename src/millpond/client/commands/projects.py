"""Commands for projects, their members and their secrets."""

import click

from millpond.client.call import Call, shared, yes_option
from millpond.client.screen import Column
from millpond.people.values import Project

_PROJECT: list[Column] = [
    ("NAME", lambda one: one.name),
    ("ROLE", lambda one: one.role or "-"),
    ("STATE", lambda one: "archived" if one.is_archived else ""),
    ("MADE", lambda one: one.made_at),
    ("DESCRIPTION", lambda one: one.description),
]


def _facts(project: Project) -> list[tuple[str, object]]:
    return [
        ("name", project.name),
        ("your role", project.role or "none (site administrator)"),
        ("state", "archived" if project.is_archived else "in use"),
        ("made", project.made_at),
        ("description", project.description),
        ("id", project.id),
    ]


@click.group()
def project() -> None:
    """Make, list and choose projects: each holds its own data, runs and record."""


@project.command("make")
@click.argument("name")
@click.option("--description", "-d", default="", help="What it is for.")
@click.option("--use/--no-use", default=None, help="Work in it from now on or not.")
@shared
def make_project(call: Call, name: str, description: str, use: bool | None) -> None:
    """Make a project NAME, which you own; it becomes the one to work in when there is none."""
    with call.client() as client:
        made = client.projects.make(name, description)
    if use or (use is None and not call.config().project):
        call.change_config(project=made.name)
        call.tell(f"Commands work in {made.name!r} now.")
    call.say(f"Made the project {made.name!r}.", made)


@project.command("list")
@click.option("--text", help="Only those whose name or description holds it.")
@click.option("--archived/--in-use", default=None, help="Archived ones only, or none of them.")
@click.option("--all", "is_all", is_flag=True, help="All of the site's; administrators.")
@shared
def list_projects(call: Call, text: str | None, archived: bool | None, is_all: bool) -> None:
    """List the projects that you are a member of."""
    with call.client() as client:
        found = client.projects.list(text=text, is_archived=archived, is_all=is_all)
    call.show_list(found, _PROJECT, "You are in no project yet: millpond project make NAME.")


@project.command("show")
@click.argument("name", required=False)
@shared
def show_project(call: Call, name: str | None) -> None:
    """Show the project NAME, or the one that commands work in."""
    with call.client() as client:
        found = client.projects.get(name)
    call.show(found, _facts(found))


@project.command("use")
@click.argument("name")
@shared
def use_project(call: Call, name: str) -> None:
    """Work in the project NAME from now on, unless --project names another."""
    with call.client() as client:
        found = client.projects.get(name)
    call.change_config(project=found.name)
    call.say(f"Commands work in {found.name!r} now.", found)


@project.command("change")
@click.argument("name")
@click.option("--description", "-d", help="What it is for.")
@shared
def change_project(call: Call, name: str, description: str | None) -> None:
    """Describe the project NAME anew."""
    with call.client() as client:
        found = client.projects.change(name, description=description)
    call.say(f"Changed {found.name!r}.", found)


@project.command("rename")
@click.argument("name")
@click.argument("new_name")
@yes_option
@shared
def rename_project(call: Call, name: str, new_name: str, yes: bool) -> None:
    """Give the project NAME the name NEW_NAME; addresses with the old one stop working."""
    call.confirm(
        f"Rename the project {name!r} to {new_name!r}? Links, scripts and commands with the old"
        " name stop working, and somebody else may take it.",
        yes=yes,
    )
    with call.client() as client:
        found = client.projects.change(name, new_name=new_name)
    if call.config().project == name:
        call.change_config(project=found.name)
        call.tell(f"Commands work in {found.name!r} now.")
    call.say(f"The project {name!r} is called {found.name!r} now.", found)


@project.command("archive")
@click.argument("name")
@yes_option
@shared
def archive_project(call: Call, name: str, yes: bool) -> None:
    """Archive the project NAME: it can be read, and refuses changes."""
    call.confirm(f"Archive the project {name!r}, so that nobody can change it?", yes=yes)
    with call.client() as client:
        found = client.projects.change(name, is_archived=True)
    call.say(f"Archived {found.name!r}; `millpond project revive {name}` undoes it.", found)


@project.command("revive")
@click.argument("name")
@shared
def revive_project(call: Call, name: str) -> None:
    """Bring the archived project NAME back to use."""
    with call.client() as client:
        found = client.projects.change(name, is_archived=False)
    call.say(f"{found.name!r} can be changed again.", found)


@click.group()
def member() -> None:
    """Add, list and remove the members of a project."""


@member.command("add")
@click.argument("user")
@click.argument("role", type=click.Choice(["owner", "editor", "viewer"]))
@shared
def add_member(call: Call, user: str, role: str) -> None:
    """Give USER a ROLE: viewers read, editors run and push, owners manage members."""
    with call.client() as client:
        made = client.members.add(user, role)
    call.say(f"{made.user} is {made.role} now.", made)


@member.command("list")
@shared
def list_members(call: Call) -> None:
    """List the members of the project."""
    with call.client() as client:
        found = client.members.list()
    columns: list[Column] = [
        ("USER", lambda one: one.user),
        ("ROLE", lambda one: one.role),
        ("SINCE", lambda one: one.added_at),
    ]
    call.show_list(found, columns, "Nobody is a member.")


@member.command("remove")
@click.argument("user")
@yes_option
@shared
def remove_member(call: Call, user: str, yes: bool) -> None:
    """Take USER out of the project."""
    call.confirm(f"Take {user!r} out of the project?", yes=yes)
    with call.client() as client:
        client.members.remove(user)
    call.say(f"{user} is no member any more.", {"removed": user})


@member.command("leave")
@yes_option
@shared
def leave_project(call: Call, yes: bool) -> None:
    """Leave the project yourself; an owner can add you again. Its last owner cannot leave."""
    call.confirm("Leave the project, so that only an owner can bring you back?", yes=yes)
    with call.client() as client:
        name = client.projects.get().name
        client.members.leave(project=name)
    call.say(f"You are no member of {name!r} any more.", {"left": name})


@click.group()
def secret() -> None:
    """Set, list and remove a project's secrets; only steps that were granted one see it."""


@secret.command("set")
@click.argument("name")
@shared
def set_secret(call: Call, name: str) -> None:
    """Keep a secret under NAME; its value comes from a prompt or from standard input."""
    value = call.read_secret(f"Value of {name}")
    with call.client() as client:
        kept = client.secrets.set(name, value)
    call.say(f"Kept {kept.name}.", kept)


@secret.command("list")
@shared
def list_secrets(call: Call) -> None:
    """List the names of the secrets; values are never shown."""
    with call.client() as client:
        found = client.secrets.list()
    columns: list[Column] = [
        ("NAME", lambda one: one.name),
        ("CHANGED", lambda one: one.changed_at),
        ("BY", lambda one: one.changed_by),
    ]
    call.show_list(found, columns, "There are no secrets.")


@secret.command("remove")
@click.argument("name")
@yes_option
@shared
def remove_secret(call: Call, name: str, yes: bool) -> None:
    """Forget the secret NAME."""
    call.confirm(f"Forget the secret {name!r}? Steps that need it will be refused.", yes=yes)
    with call.client() as client:
        client.secrets.remove(name)
    call.say(f"Forgot {name}.", {"removed": name})
