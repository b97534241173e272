"""The command line's door: finds the command, loads only its module, turns errors into words."""

import difflib
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from millpond.client import exits, screen
from millpond.ground.errors import Fault, InvalidError, MillpondError

_COMMANDS = {
    "up": ("server:up", "Start the server, in the foreground."),
    "demo": (
        "demo:demo",
        "Run a predictor over real files of this machine, and show what it found.",
    ),
    "login": ("people:login", "Sign in to a server, and keep a token for it."),
    "sign-up": ("invitations:sign_up", "Make yourself an account, and sign in to it."),
    "logout": ("people:logout", "Withdraw the token and forget the server."),
    "user": ("people:user", "Accounts of the site; for administrators."),
    "project": ("projects:project", "Projects: make, list, choose the one to work in."),
    "member": ("projects:member", "Who belongs to a project, and as what."),
    "invitation": ("invitations:invitation", "Invite people, into a project or to the site."),
    "token": ("people:token", "Your API tokens and sessions."),
    "passkey": ("passkeys:passkey", "Your passkeys, by which browsers sign you in."),
    "identity": ("identities:identity", "Accounts elsewhere by which you sign in."),
    "session": ("sessions:session", "Where you are signed in: list and end."),
    "secret": ("projects:secret", "Secrets that steps may be granted; never shown again."),
    "dataset": ("lake:dataset", "Push, list, show and download data."),
    "upload": ("uploads:upload", "Uploads that were interrupted: list and remove."),
    "env": ("environments:env", "Environments: requirements locked and built."),
    "pipeline": ("pipelines:pipeline", "Push, list and show pipelines."),
    "preset": ("presets:preset", "Presets: named fillings of a pipeline's form."),
    "run": ("runs:run", "Run a pipeline or any program; follow it and take its outputs."),
    "log": ("audit:log", "The record of every change: show, verify, export."),
    "job": ("jobs:job", "The server's queue; for administrators."),
    "usage": ("usage:usage", "What runs have used: processor hours, memory, tasks, cost."),
    "monitor": ("monitor:monitor", "What the machines are busy with; for administrators."),
    "node": ("nodes:node", "The machines that run tasks; for administrators."),
    "store": ("store:store", "Where the objects lie: move them, on the server's machine."),
    "system": ("system:system", "The server's settings and health; for administrators."),
    "doctor": ("doctor:doctor", "Say what works on this machine, and how to mend what doesn't."),
    "completion": ("completion:completion", "Print the shell's completion script."),
}


_ELSEWHERE = {
    "cluster": "node",
    "health": "system health",
    "settings": "system settings",
    "authority": "system authority",
    "queue": "job",
    "storage": "store",
    "drain": "node drain",
    "join": "node join",
    "metrics": "monitor",
    "push": "dataset push",
    "download": "run outputs",
}
"""What people look for under another name."""


class LazyGroup(click.Group):
    """The top command, which lists its commands without loading them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature.
        """List the names in the order of a first day."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load the one command that was asked for."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        found = importlib.import_module(f"millpond.client.commands.{module}")
        command: click.Command = getattr(found, attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one that is called otherwise is told."""
        word = args[0] if args else ""
        if word and word not in _COMMANDS and not word.startswith("-"):
            near = difflib.get_close_matches(word, [*_COMMANDS, *_ELSEWHERE], 1)
            other = _ELSEWHERE.get(near[0], near[0]) if near else ""
            ctx.fail(f"No such command {word!r}." + (f" Did you mean {other!r}?" if other else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write one line per command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from importlib.metadata import version

        click.echo(f"millpond {version('millpond')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Print the version and end.",
)  # fmt: skip
def cli() -> None:
    """Millpond: pipelines on your own data, in a sandbox, on record.

    Start with `millpond demo`, or with `millpond up` and, in another terminal, `millpond project
    make NAME`. Every command takes --json and --help.
    """


def main() -> None:
    """Run the command line and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; give its exit code."""
    try:
        result = cli.main(list(arguments), prog_name="millpond", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        # The reader of our output went away; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.DONE
    except BaseException as fault:  # noqa: BLE001 - the one place where faults become words.
        return _tell(fault, as_json="--json" in arguments)
    return result if isinstance(result, int) else exits.DONE


def _tell(fault: BaseException, *, as_json: bool) -> int:
    if isinstance(fault, (click.Abort, KeyboardInterrupt)):
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    if isinstance(fault, click.ClickException):
        return _tell_wrong_use(fault, as_json=as_json)
    if isinstance(fault, MillpondError):
        told = fault
    elif isinstance(fault, OSError):
        told = _os_error(fault)
    elif isinstance(fault, Exception):
        told = _defect(fault)
    else:
        raise fault
    code = exits.exit_code(told)
    screen.write_error(told, code, as_json=as_json)
    return code


def _tell_wrong_use(wrong: click.ClickException, *, as_json: bool) -> int:
    ctx = wrong.ctx if isinstance(wrong, click.UsageError) else None
    if isinstance(wrong, click.exceptions.NoArgsIsHelpError):
        click.echo(wrong.format_message(), err=True)
        return exits.WRONG_USE
    next_step = f"See `{ctx.command_path} --help`." if ctx else "See `millpond --help`."
    if ctx is not None and not as_json:
        click.echo(ctx.get_usage(), err=True)
    said = " ".join(wrong.format_message().split())  # Choices stand there one a line, with tabs.
    fault = InvalidError(
        said,
        next_step=next_step,
        faults=[Fault("arguments", said)] if as_json else (),
    )
    screen.write_error(fault, exits.WRONG_USE, as_json=as_json)
    return exits.WRONG_USE


def _os_error(fault: OSError) -> MillpondError:
    what = f"{fault.filename}: {fault.strerror}" if fault.filename else str(fault)
    return InvalidError(
        f"This machine refused: {what}.", next_step="Check the path, its rights and the free space."
    )


def _defect(fault: Exception) -> MillpondError:
    trace = "".join(traceback.format_exception(fault))
    with tempfile.NamedTemporaryFile(
        "w", prefix="millpond-defect-", suffix=".txt", delete=False
    ) as file:
        file.write(trace)
    return MillpondError(
        f"A defect of Millpond's own: {type(fault).__name__}: {fault}.",
        next_step=f"Report it with the trace in {Path(file.name)}.",
    )
