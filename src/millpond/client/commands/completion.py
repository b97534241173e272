"""The command for shell completion."""

import click
from click.shell_completion import get_completion_class

from millpond.client.call import Call, shared
from millpond.ground.errors import InvalidError

_HOW = {
    "bash": "millpond completion bash >> ~/.bashrc",
    "zsh": "millpond completion zsh >> ~/.zshrc",
    "fish": "millpond completion fish > ~/.config/fish/completions/millpond.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_HOW)))
@shared
def completion(call: Call, shell: str) -> None:
    r"""Print the completion script for SHELL.

    \b
    millpond completion bash >> ~/.bashrc
    millpond completion zsh >> ~/.zshrc
    millpond completion fish > ~/.config/fish/completions/millpond.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise InvalidError(f"No completion for {shell}.", next_step="Choose bash, zsh or fish.")
    root = click.get_current_context().find_root().command
    script = found(root, {}, "millpond", "_MILLPOND_COMPLETE").source()
    call.say(script, {"shell": shell, "script": script, "how": _HOW[shell]})
