"""Run one task of a step inside the sandbox: read its inputs, call it, write its outputs."""

import os
import sys

from .delivery import leave_files, leave_rows
from .hints import form_of, from_json, hints_of, may_be_none, outputs_of, returned_class
from .kinds import File, Files, Model, Table
from .progress import Progress
from .rows import RowWriter, suffix_of
from .wire import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .kinds import Counted

_RESULT = ".millpond/result.json"
_PYTHONS_OWN = (13, 25)  # SIGPIPE and SIGXFSZ: Python passes over them, programs expect them.


def load(name: str) -> "Any":
    """Import a module by its full name."""
    __import__(name)
    return sys.modules[name]


def run_step(
    entry: str, arguments: "Mapping[str, Any]", over: str = "", items: int = 0, size: int = 0
) -> None:
    """Call a step's function on what lies in the input folder; the entry of every function task.

    Args:
        entry: ``module:function``.
        arguments: by name ``{"value": JSON}``, or ``{"kind": KIND}`` for data in a folder of
            the argument's name.
        over: the argument whose items are counted as progress.
        items: how many of them there are, 0 when that is not known.
        size: their bytes.
    """
    module, _, name = entry.partition(":")
    function = getattr(load(module), name)
    function = getattr(function, "function", function)
    hints = hints_of(function)[0]
    with Progress(items, size) as progress:
        values = {}
        for key, given in arguments.items():
            if "kind" in given:
                counted = progress.count if key == over else None
                values[key] = _data(given["kind"], key, hints.get(key), counted)
            else:
                values[key] = from_json(hints.get(key), given["value"])
        returned = function(**values)
        outputs = outputs_of(function)[0]
        several = returned_class(function) is not None
        results = list(returned) if several else [returned]
        if several and len(results) != len(outputs):
            raise TypeError(f"{name} returned {len(results)} outputs, not {len(outputs)}")
        _leave(dict(zip((each[0] for each in outputs), results)), dict(outputs))  # noqa: B905 - Python 3.9.


def _leave(results: "dict[str, Any]", kinds: "dict[str, str]") -> None:
    out = _out()
    counts: "dict[str, Any]" = {}
    for name, value in results.items():
        if kinds[name] == "table":
            counts[name] = leave_rows(value, os.path.join(out, name))
        else:
            leave_files(value, out, name, is_one=kinds[name] == "file")
    _write_result({"rows": counts}, out)


def _data(kind: str, name: str, hint: "Any", counted: "Counted | None") -> "Any":
    folder = os.path.join(_in(), name)
    folder_seen = folder if os.path.isdir(folder) else _empty_folder(name)
    told = {} if counted is None else {"counted": counted}
    if kind == "table":
        table = Table(table_parts(folder_seen), **told)
        return {"arrow": table.arrow, "pandas": table.pandas}.get(form_of(hint), lambda: table)()
    if kind == "model":
        return Model(folder_seen, **told)
    files = Files(folder_seen, **told)
    if kind == "files":
        return files
    if not files and may_be_none(hint):
        return None  # It was left out.
    if len(files) != 1:
        raise ValueError(f"the input {name!r} must be one file, not {len(files)}")
    file: File = files[0]
    return file


def _empty_folder(name: str) -> str:
    folder = os.path.join(_private(), f".millpond-{os.getpid()}-{name}")
    os.mkdir(folder, 0o700)
    return folder


def _private() -> str:
    return os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - its own.


def table_parts(folder: str) -> "list[str]":
    """Give the files of a table in order.

    Raises:
        ValueError: some file is no table by its name; lists the first ten.
    """
    paths = [os.fspath(file) for file in Files(folder)]
    names = [os.path.basename(path) for path in paths]
    wrong = [ascii(name) for name in names if not suffix_of(name)]
    if wrong:
        raise ValueError(f"a table is needed, but these are none: {', '.join(wrong[:10])}")
    return paths


def split_table(name: str, rows: int) -> None:
    """Cut a table into parts of so many rows; the entry of a map step's first task."""
    with Progress(0, 0) as progress:
        folder = os.path.join(_in(), name)
        parts = table_parts(folder) if os.path.isdir(folder) else []
        with RowWriter(os.path.join(_out(), name), part_rows=rows) as writer:
            for row in Table(parts, progress.count):
                writer.write(row)
    _write_result({"rows": {name: writer.runs()}}, _out())


def run_command(
    command: "Sequence[str]", arguments: "Mapping[str, Any]", outputs: "Sequence[str]"
) -> None:
    """Run a program on what lies in the input folder; the entry of every command task.

    Exits with the program's own code when that is not 0.
    """
    data = {name: os.path.join(_in(), name) for name, given in arguments.items() if "kind" in given}
    values = {name: given.get("value") for name, given in arguments.items() if name not in data}
    fields = {"code": os.environ.get("MILLPOND_CODE", "/code"), **data}
    fields.update({name: _text(value) for name, value in values.items()})
    parameters = os.path.join(_private(), f".millpond-{os.getpid()}.json")
    handle = os.open(parameters, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(dumps(values))
    for name, folder in data.items():
        os.environ[f"MILLPOND_INPUT_{_variable(name)}"] = folder
    os.environ["MILLPOND_PARAMETERS"] = parameters
    os.environ["MILLPOND_INPUT"] = _in()
    task_out = _out()
    left = os.path.join(task_out, outputs[0])
    os.makedirs(left, exist_ok=True)
    os.environ["MILLPOND_OUTPUT"] = left
    words = [_fill(word, fields) for word in command]
    sys.stdout.flush()
    os.chdir(left)
    try:  # Without the package for it, which costs more than the rest of a light task.
        pid = os.posix_spawnp(words[0], words, os.environ, setsigdef=_PYTHONS_OWN)
    except OSError as fault:
        sys.exit(f"{words[0]} can't be started: {fault.strerror}; is it in the environment?")
    status = os.waitpid(pid, 0)[1]
    if status:
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        told = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        print(f"{words[0]} {told}", file=sys.stderr)
        sys.exit(code if code > 0 else 128 - code)
    _write_result({"rows": {}}, task_out)


def _fill(word: str, fields: "Mapping[str, str]") -> str:
    for name, text in fields.items():
        word = word.replace("{" + name + "}", text)
    return word


def _text(value: "Any") -> str:
    return value if isinstance(value, str) else dumps(value)


def _variable(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name).upper()


def _in() -> str:
    return os.environ.get("MILLPOND_INPUT", "/task/in")


def _out() -> str:
    return os.environ.get("MILLPOND_OUTPUT", "/task/out")


def _write_result(result: "dict[str, Any]", out: str) -> None:
    if not any(result["rows"].values()):
        return  # Nothing to tell costs nothing.
    path = os.path.join(out, _RESULT)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(dumps(result))
