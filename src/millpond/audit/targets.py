"""How entries are said to people, and where what they speak of is shown."""

from collections.abc import Mapping
from urllib.parse import quote

from millpond.audit.values import Entry


class Targets:
    """Knows the pages of things, by the noun that an entry's target begins with."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """Take a path for each noun; it may hold ``{project}`` and ``{name}``."""
        self._paths = paths

    def path(self, target: str, project: str = "") -> str:
        """Give the page of ``noun/name@version``; empty where there is none."""
        noun, _, rest = target.partition("/")
        name = rest.partition("@")[0]
        path = self._paths.get(noun, "")
        if not name or not path or ("{project}" in path and not project):
            return ""
        return path.replace("{project}", quote(project)).replace("{name}", quote(name, safe=""))


def say(entry: Entry) -> tuple[str, str]:
    """Say what was done in words for people: the thing, and what became of it.

    The verb ``dataset.version.added`` of ``dataset/reviews@3`` reads ``dataset reviews@3`` and
    ``version added``.
    """
    noun, _, name = entry.target.partition("/")
    first, _, rest = entry.verb.partition(".")
    words = rest if first == noun and rest else entry.verb
    thing = name if name.startswith(f"{noun}_") else f"{noun.replace('_', ' ')} {name}".strip()
    return thing, words.replace(".", " ").replace("_", " ")
