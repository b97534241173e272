"""The command line: every command helps, answers wrong use in words, and costs little to start."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from millpond.client import cli as door
from millpond.client import exits
from millpond.client.call import Call
from millpond.client.commands.nodes import split_port
from millpond.ground import errors
from millpond.ground.errors import MillpondError

ROOT = Path(__file__).parents[2]
INVALID = errors.InvalidError("Wrong.", next_step="Mend it.")


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        yield path
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from walk(found, (*path, name))


COMMANDS = list(walk(door.cli, ()))


def find(path: tuple[str, ...]) -> click.Command:
    command: click.Command = door.cli
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


@pytest.fixture(autouse=True)
def _own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLPOND_CONFIG", str(tmp_path / "config" / "config.toml"))
    monkeypatch.setenv("MILLPOND_DATA", str(tmp_path / "data"))
    for name in ("MILLPOND_URL", "MILLPOND_TOKEN", "MILLPOND_PROJECT"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does_and_takes_json(path: tuple[str, ...]) -> None:
    command = find(path)
    assert command.help
    assert command.get_short_help_str(200).endswith((".", ":"))
    options = {name for one in command.params for name in one.opts}
    assert {"--json", "--project", "--url"} <= options
    for one in command.params:
        if isinstance(one, click.Option) and not one.hidden:
            assert one.help, one.name


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_an_unknown_option_is_named(path: tuple[str, ...], capfd: Any) -> None:
    assert door.run([*path, "--no-such-option"]) == exits.WRONG_USE
    said = capfd.readouterr()
    assert said.out == ""
    assert "--no-such-option" in said.err
    assert "--help" in said.err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_wrong_use_is_json_where_json_was_asked(path: tuple[str, ...], capfd: Any) -> None:
    takes_all = any(one.nargs == -1 for one in find(path).params)
    wrong = ["--no-such-option"] if takes_all else ["one", "two", "three", "four", "five"]
    assert door.run([*path, "--json", *wrong]) in (exits.WRONG_USE, 6)
    said = capfd.readouterr()
    assert said.out == ""
    told = json.loads(said.err)["error"]
    assert told["message"]
    assert told["next_step"]
    assert told["exit_code"] in (2, 6)


NEEDING = [
    path
    for path in COMMANDS
    if any(isinstance(one, click.Argument) and one.required for one in find(path).params)
]


@pytest.mark.parametrize("path", NEEDING, ids=" ".join)
def test_a_missing_argument_is_named(path: tuple[str, ...], capfd: Any) -> None:
    assert door.run(list(path)) == exits.WRONG_USE
    said = capfd.readouterr().err
    assert "Missing" in said
    assert f"millpond {' '.join(path)} --help" in said


HARMFUL = [path for path in COMMANDS if any("--yes" in one.opts for one in find(path).params)]


@pytest.mark.parametrize("path", HARMFUL, ids=" ".join)
def test_harm_is_not_done_where_nobody_can_be_asked(path: tuple[str, ...], capfd: Any) -> None:
    words = []
    for one in find(path).params:
        if one.required:
            value = one.type.choices[0] if isinstance(one.type, click.Choice) else "x"
            words += [value] if isinstance(one, click.Argument) else [one.opts[0], value]
    assert door.run([*path, *words]) == 6
    assert "--yes" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("rum", "No such command 'rum'. Did you mean 'run'?"),
        ("nodes", "No such command 'nodes'. Did you mean 'node'?"),
        ("health", "No such command 'health'. Did you mean 'system health'?"),
        ("storage", "No such command 'storage'. Did you mean 'store'?"),
        ("zzz", "No such command 'zzz'.\n"),
    ],
)
def test_an_unknown_command_is_named_with_the_one_that_was_meant(
    word: str, said: str, capfd: Any
) -> None:
    assert door.run([word]) == exits.WRONG_USE
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("url", ["nonsense", "ftp://a", "http://:x", "http://[::"])
def test_an_address_that_is_none_is_told_as_such(
    url: str, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLPOND_TOKEN", "mp_any")
    assert door.run(["project", "list", "--url", url]) == exits.exit_code(INVALID)
    said = capfd.readouterr().err
    assert f"{url!r} is no address of a server." in said
    assert "such as https://HOST:8787" in said


def test_a_change_that_names_nothing_is_refused(capfd: Any) -> None:
    assert door.run(["node", "set", "owl"]) == exits.exit_code(INVALID)
    assert "Nothing was named to change of owl." in capfd.readouterr().err


def test_what_is_told_of_machines_has_colours_only_for_people(capfd: Any) -> None:
    call = Call(as_json=False, project=None, url=None)
    call.tell(" reach  \x1b[2J gone", "failed  ", None)
    call.tell(" reach", "failed  ", "red")
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "failed   reach  \\x1b[2J gone", "others' words move no cursor"
    assert "\\x1b" not in said[1], "our own colours are not shown as text"


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("owl", ("owl", 0)),
        ("owl:2222", ("owl", 2222)),
        ("[fd00::7]:2222", ("fd00::7", 2222)),
        ("fd00::7", ("fd00::7", 0)),
        ("owl:x", ("owl:x", 0)),
    ],
)
def test_a_machine_may_be_named_with_its_port(text: str, split: tuple[str, int]) -> None:
    assert split_port(text) == split


def test_no_server_is_told_with_the_next_step(capfd: Any) -> None:
    assert door.run(["project", "list"]) == 4
    said = capfd.readouterr().err
    assert said == (
        "error: No server was named, and none runs on this machine.\n"
        "next:  Start one with `millpond up`, or sign in to one: millpond login URL.\n"
    )
    assert door.run(["project", "list", "--url", "http://127.0.0.1:1", "--json"]) == 7
    assert json.loads(capfd.readouterr().err)["error"]["code"] == "unreachable"


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["run", "--wait"], "Name a PIPELINE or a --program"),
        (["run", "p", "--program", __file__], "one of them"),
        (["run", "p", "--env", "e"], "belong to a --program"),
        (["run", "logs"], "Missing argument 'ID'"),
        (["log", "show", "--most", "0"], "x>=1"),
        (["member", "add", "ann", "king"], "'king' is not one of"),
        (["dataset", "push", "/no/such/place"], "does not exist"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
        (["token", "make", "t", "--days", "soon"], "'soon' is not a valid integer"),
        (["store", "move"], "Missing option '--to'. Choose from: folder, s3, nodes\n"),
        (["usage", "--since", "soon"], "'soon' is no day; write it like 2026-05-01."),
    ],
)
def test_wrong_arguments_are_told(words: list[str], fault: str, capfd: Any) -> None:
    assert door.run(words) == exits.WRONG_USE
    assert fault in capfd.readouterr().err


def test_run_takes_a_pipeline_or_a_command() -> None:
    group = find(("run",))
    assert isinstance(group, click.Group)
    for words, name in (
        (["filetypes", "--wait"], "start"),
        (["--program", __file__], "start"),
        (["list"], "list"),
        (["start", "list"], "start"),
    ):
        ctx = click.Context(group, info_name="run")
        left = group.parse_args(ctx, list(words))
        assert [*ctx._protected_args, *left][0] == name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str, capfd: Any) -> None:
    assert door.run(["completion", shell]) == 0
    assert "_MILLPOND_COMPLETE" in capfd.readouterr().out


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    for name in door.LazyGroup().list_commands(click.Context(door.cli)):
        assert find((name,)).callback is not None
        assert find((name,)).help


def test_an_interrupt_and_a_defect_have_their_codes(
    capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door._tell(KeyboardInterrupt(), as_json=False) == 130
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018 - it is to fail.
    assert door._tell(caught.value, as_json=True) == 1
    told = json.loads(capfd.readouterr().err.splitlines()[-1])["error"]
    trace = Path(re.search(r"in (/\S+)\.$", told["next_step"]).group(1))  # type: ignore[union-attr]
    assert "ZeroDivisionError" in trace.read_text()
    trace.unlink()


def test_every_kind_of_error_has_a_documented_exit_code() -> None:
    kinds = [
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, MillpondError) and one.__name__[0] != "_"
    ]
    codes = {kind.__name__: exits.exit_code(kind("m", next_step="n")) for kind in kinds}
    assert codes.pop("MillpondError") == exits.DEFECT
    assert set(codes.values()) <= exits.MEANINGS.keys() - {0, 1, 2}
    assert exits.exit_code(exits.FailedError("m", next_step="n")) == exits.RUN_FAILED
    assert exits.exit_code(exits.NotGenuineError("m", next_step="n")) == exits.LOG_NOT_GENUINE


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from millpond.client.cli import run\n"
        "run(['--help'])\n"
        "heavy = {'httpx', 'rich', 'sqlalchemy', 'fastapi', 'pydantic', 'cryptography', 'pyarrow'}\n"
        "print('LOADED', sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_a_command_loads_no_server() -> None:
    code = (
        "import sys\n"
        "from millpond.client.cli import run\n"
        "run(['project', 'list', '--url', 'http://127.0.0.1:1'])\n"
        "server = {'sqlalchemy', 'fastapi', 'pydantic', 'uvicorn', 'pyarrow', 'obstore', 'rich'}\n"
        "print('LOADED', sorted(server & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LOADED []" in done.stdout


def test_the_page_of_commands_is_fresh() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/make_cli.py", "--print"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert (ROOT / "docs" / "cli.md").read_text() == drawn, "run python docs/make_cli.py"
