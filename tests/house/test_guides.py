"""The guides: each command that they show is one, with options that it has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from millpond.client import cli as door
from millpond.ground.settings import list_settings

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_NO_SETTINGS = {"server.pid", "server.log", "objects.moved"}
"""Files and entries of the record that look like settings."""
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(millpond [^`\n]+)`")


def commands_of(page: Path) -> Iterator[str]:
    """Give the commands of a page: lines of its blocks, and what stands between backticks."""
    text = page.read_text()
    for block in _FENCE.findall(text):
        lines = (line.strip().removeprefix("$ ") for line in block.splitlines())
        for line in lines:
            found = re.match(r"(?:\S*/bin/)?(millpond .*)", line)
            if found:
                yield found[1]
    yield from _INLINE.findall(_FENCE.sub("", text))


def words_of(line: str) -> list[str]:
    """Take a shown command apart: without remarks, and without what the shell does."""
    line = re.sub(r"\s+#.*", "", line)
    line = re.split(r"\s[|>]|;|…|\.\.\.", line)[0]
    try:
        return shlex.split(line)[1:]
    except ValueError:
        return line.split()[1:]


def fault_of(words: list[str]) -> str:
    """Say what is wrong with a command; empty for nothing."""
    command: click.Command = door.cli
    rest = list(words)
    if rest[:1] == ["run"] and len(rest) > 1 and rest[1].startswith("--"):
        rest.insert(1, "start")  # `millpond run --program FILE` is short for it.
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(click.Context(command), rest[0])
        if found is None:
            # Short for a command of the group, such as `run PIPELINE`.
            if command.name == "run":
                found = command.get_command(click.Context(command), "start")
                rest.insert(0, "start")
            elif rest[0].isupper() or not re.fullmatch(r"[a-z-]+", rest[0]):
                return ""
            else:
                return f"{command.name} has no command {rest[0]!r}"
        assert found is not None
        command, rest = found, rest[1:]
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    known |= {"--help", "-h"}
    options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    wrong = sorted(options - known)
    return f"{command.name} has no option {', '.join(wrong)}" if wrong else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_is_one(page: Path) -> None:
    faults = [
        f"{line}: {fault}" for line in commands_of(page) if (fault := fault_of(words_of(line)))
    ]
    assert faults == []


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_setting_verb_and_link_of_a_page_is_one(page: Path) -> None:
    text = page.read_text()
    settings = {one.key for one in list_settings()} | _NO_SETTINGS
    rooms = {key.partition(".")[0] for key in settings}
    faults = [
        f"the setting {room}.{name}"
        for room, name in re.findall(r"`([a-z]+)\.([a-z_]+)(?: = [^`]*)?`", text)
        if room in rooms and f"{room}.{name}" not in settings
    ]
    verbs = set(re.findall(r"^    ([a-z| ]+)\)$", (ROOT / "dev").read_text(), re.MULTILINE))
    known = {verb.strip() for each in verbs for verb in each.split("|")}
    shown = set(re.findall(r"^\./dev ([a-z]+)|`\./dev ([a-z]+)", text, re.MULTILINE))
    faults += [f"./dev {a or b}" for a, b in sorted(shown) if (a or b) not in known]
    links = re.findall(r"\]\((?!https?:|#|/)([^)#\s]+)", text)
    faults += [f"the link {link}" for link in links if not (page.parent / link).exists()]
    assert faults == []


def test_what_is_no_command_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Say `millpond node drian w1`.\n```\nmillpond node add root@a --kye K   # why\n"
        "/opt/millpond/current/bin/millpond user add anna\n```\n"
    )
    faults = [fault_of(words_of(line)) for line in commands_of(page)]
    assert faults == ["add has no option --kye", "", "node has no command 'drian'"]
