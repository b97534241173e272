"""One call of a command: its shared options, its client, its way to show what came of it."""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from millpond.client import screen
from millpond.client.client import Client
from millpond.client.config import Config, config_path, read_config, write_config
from millpond.client.progress import OnProgress
from millpond.ground.errors import InvalidError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Call:
    """What every command is given.

    Attributes:
        as_json: whether to write one JSON value instead of text.
        project: the project that was named, if any.
        url: the server that was named, if any.
    """

    as_json: bool
    project: str | None
    url: str | None

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        """Open the SDK for the server that was named or kept."""
        with Client(self.url, project=self.project) as client:
            yield client

    def progress(self) -> contextlib.AbstractContextManager[OnProgress]:
        """Show bars, unless nobody would see them."""
        return screen.progress_bars(quiet=self.as_json)

    def show_list(
        self, items: Sequence[Any], columns: Sequence[screen.Column], nothing: str
    ) -> None:
        """Show a list."""
        if self.as_json:
            screen.write_json(items)
        else:
            screen.write_table(items, columns, nothing)

    def show(self, value: object, facts: Sequence[tuple[str, object]]) -> None:
        """Show one thing with its facts."""
        if self.as_json:
            screen.write_json(value)
        else:
            screen.write_facts(facts)

    def say(self, text: str, value: object = None) -> None:
        """Say what was done; as JSON, ``value``."""
        if self.as_json:
            screen.write_json(value)
        else:
            click.echo(screen.harmless(text, "\n"))

    def report(self, text: str) -> None:
        """Report a line of the result, to people only, on standard output."""
        if not self.as_json:
            click.echo(screen.harmless(text, "\n"))

    def tell(self, text: str, head: str = "", colour: str | None = None) -> None:
        """Tell something beside the result, to people only, on standard error.

        Args:
            text: what; others' words in it cannot move the cursor.
            head: stands before it, in a colour.
            colour: of the head; None for none.
        """
        if not self.as_json:
            shown = click.style(head, fg=colour) if colour else head
            click.echo(shown + screen.harmless(text, "\n"), err=True)

    def confirm(self, question: str, *, yes: bool) -> None:
        """Ask before harm; where nobody can be asked, ``--yes`` must have been given.

        Raises:
            InvalidError: nobody can be asked.
        """
        if yes:
            return
        if self.as_json or not sys.stdin.isatty():
            raise InvalidError(
                f"{question} Nobody is here to answer.", next_step="Add --yes when you mean it."
            )
        if not click.confirm(question, err=True):
            raise click.Abort

    def read_secret(
        self,
        what: str,
        *,
        twice: bool = False,
        otherwise: str = "Type it at the prompt, or pipe it in: it is never an argument.",
    ) -> str:
        """Read a secret from a prompt, or from standard input when that is no terminal.

        Args:
            what: it is.
            twice: whether to ask for it once more.
            otherwise: what to do when nothing came.

        Raises:
            InvalidError: nothing came.
        """
        stream = sys.stdin
        if stream.isatty():
            text = str(click.prompt(what, hide_input=True, confirmation_prompt=twice, err=True))
        else:
            text = stream.read().removesuffix("\n")
        if not text:
            raise InvalidError(
                f"No {what.lower()} came on standard input.",
                next_step=otherwise,
            )
        return text

    def config(self) -> Config:
        """Read what is kept on this machine."""
        return read_config(config_path(os.environ))

    def change_config(self, **changes: Any) -> Config:
        """Keep something on this machine."""
        changed = replace(self.config(), **changes)
        write_config(config_path(os.environ), changed)
        return changed


def shared(function: F) -> F:
    """Give a command the shared options, and hand it a Call first."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Write one JSON value to standard output."
    )
    @click.option("--project", "-p", metavar="NAME", help="Work in this project.")
    @click.option("--url", metavar="URL", help="Speak to this server.")
    @functools.wraps(function)
    def wrapped(*, as_json: bool, project: str | None, url: str | None, **options: Any) -> Any:
        return function(Call(as_json, project, url), **options)

    return wrapped  # type: ignore[return-value]


def yes_option(function: F) -> F:
    """Give a command that harms a way to be meant."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(function)


EXISTING = click.Path(exists=True, path_type=Path)
"""An argument that names a file or folder that is there."""

FOLDER = click.Path(file_okay=False, path_type=Path)
"""An argument that names a folder, which is made when it is not there."""
