"""What somebody comes home to: their projects, and what changed in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.audit.evidence import last_changes, newest_entries
from millpond.audit.targets import Targets, say
from millpond.audit.values import Entry
from millpond.ground.actor import Actor
from millpond.ground.page import Page
from millpond.people.actions import list_projects, only_allowed
from millpond.people.values import Project, ProjectFilter
from millpond.storage.database import Transaction

_PROJECTS_MOST = 500


@dataclass(frozen=True)
class ProjectSeen:
    """A project, with the time of its newest change."""

    project: Project
    changed_at: datetime


@dataclass(frozen=True)
class Change:
    """An entry of a project's log, for people.

    Attributes:
        entry: the entry.
        project: the project's name.
        what: what it was done to, in words.
        done: what was done, in words.
        path: page of the thing; empty where there is none.
    """

    entry: Entry
    project: str
    what: str
    done: str
    path: str


def my_projects(tx: Transaction, actor: Actor) -> list[ProjectSeen]:
    """Give one's own projects that are in use, those that changed last first."""
    asked = ProjectFilter(is_archived=False)
    found = list_projects(tx, actor, asked, limit=_PROJECTS_MOST)
    seen = see_projects(tx, found).items
    return sorted(seen, key=lambda one: one.changed_at, reverse=True)


def see_projects(tx: Transaction, found: Page[Project]) -> Page[ProjectSeen]:
    """Give projects that the actor was given, each with the time of its newest change."""
    changed = last_changes(tx, [project.id for project in found.items])
    return found.map(lambda project: ProjectSeen(project, changed.get(project.id, project.made_at)))


def newest_changes(
    tx: Transaction, actor: Actor, projects: Sequence[Project], targets: Targets, limit: int
) -> list[Change]:
    """Give the newest entries of those of these projects whose log the actor may read."""
    names = {project.id: project.name for project in projects}
    ids = only_allowed(tx, actor, "log.read", list(names))
    return [
        Change(
            entry, names[entry.chain], *say(entry), targets.path(entry.target, names[entry.chain])
        )
        for entry in newest_entries(tx, ids, limit)
    ]
