"""Write docs/cli.md from the help of every command.

``python docs/make_cli.py`` writes the page; with ``--print`` it goes to standard output.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from millpond.client.cli import cli
from millpond.client.exits import MEANINGS

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# The command line

Written from the commands' own help by `python docs/make_cli.py`; do not edit it by hand.

Every command takes `--json` (one JSON value on standard output; errors as JSON on standard error),
`--project NAME` and `--url URL`. Which project: `--project`, else `MILLPOND_PROJECT`, else the one of
`millpond project use`. Which server: `--url`, else `MILLPOND_URL`, else the one of `millpond login`,
else one that runs on this machine. Which token: `MILLPOND_TOKEN`, else the one of `millpond login`,
else the sign-in by the server's key file. What `login` and `project use` keep lies in
`~/.config/millpond/config.toml` (or where `MILLPOND_CONFIG` says), readable by you alone.

Secrets (passwords, tokens, values of secrets) come from a prompt or from standard input, never from
an argument. What does harm asks first; `--yes` answers.

`millpond run PIPELINE` is short for `millpond run start PIPELINE`. When the first word after `run` is
one of its commands (`list`, `show`, ...), it is that command: a pipeline of such a name needs the long
form.

## Exit codes

| code | meaning |
|---|---|
"""


def walk(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give every command with its path, in the order of the help."""
    yield path, command
    if isinstance(command, click.Group):
        ctx = click.Context(command, info_name=path[-1])
        for name in command.list_commands(ctx):
            found = command.get_command(ctx, name)
            if found is not None and not found.hidden:
                yield from walk(found, (*path, name))


def draw() -> str:
    """Give the whole page."""
    deep = 3
    parts = [HEAD + "\n".join(f"| {code} | {text} |" for code, text in MEANINGS.items()) + "\n"]
    for path, command in walk(cli, ("millpond",)):
        ctx: click.Context | None = None
        for at, name in enumerate(path, 1):
            # A parent's arguments would stand in its usage line as well.
            one = command if at == len(path) else click.Group(name)
            ctx = click.Context(one, info_name=name, parent=ctx, terminal_width=92)
        assert ctx is not None
        text = command.get_help(ctx).rstrip()
        parts.append(
            f"{'##' if len(path) < deep else '###'} {' '.join(path)}\n\n```\n{text}\n```\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(draw())
    else:
        PAGE.write_text(draw())
