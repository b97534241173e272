"""Change a table of a settings file and leave every other line as it is."""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from millpond.ground.errors import InvalidError

_HEADER = re.compile(r"\s*\[")


def change_table(path: Path, table: str, values: Mapping[str, Any]) -> None:
    """Set values of a table; the file before stays beside it, with ``.before`` added to its name.

    Args:
        path: the file; made when it is not there.
        table: its name, such as ``objects``.
        values: texts, numbers and truths by name; what is not named stays as it is.

    Raises:
        InvalidError: the file is written in a way that cannot be changed line by line.
    """
    text = path.read_text("utf-8") if path.exists() else ""
    wanted = tomllib.loads(text)
    wanted[table] = {**wanted.get(table, {}), **values}
    changed = _changed(text, table, values)
    try:
        is_right = tomllib.loads(changed) == wanted
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        lines = "; ".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
        raise InvalidError(
            f"{path} cannot be changed by a program.",
            next_step=f"Write into its table [{table}]: {lines}.",
        )
    if path.exists():
        _write(path.with_name(f"{path.name}.before"), text)
    _write(path, changed)


def write_table(path: Path, table: str, values: Mapping[str, Any]) -> None:
    """Write a file that holds one table and is for its owner alone."""
    _write(path, "\n".join([f"[{table}]", *(_line(*each) for each in values.items()), ""]))


def _changed(text: str, table: str, values: Mapping[str, Any]) -> str:
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if _is_header(line, table)), None)
    if start is None:
        gap = [""] if lines else []
        return "\n".join([*lines, *gap, f"[{table}]", *(_line(*v) for v in values.items()), ""])
    after = range(start + 1, len(lines))
    end = next((n for n in after if _HEADER.match(lines[n])), len(lines))
    left = dict(values)
    inside = []
    for line in lines[start + 1 : end]:
        name = line.partition("=")[0].strip()
        comment = _comment(line)
        inside.append(_line(name, left.pop(name)) + comment if name in left else line)
    new = [_line(*each) for each in left.items()]
    return "\n".join([*lines[: start + 1], *new, *inside, *lines[end:], ""])


def _is_header(line: str, table: str) -> bool:
    return re.fullmatch(rf"\s*\[\s*{re.escape(table)}\s*\]\s*(#.*)?", line) is not None


def _comment(line: str) -> str:
    """Give what stands behind a value that holds no number sign itself."""
    value, sign, text = line.partition("#")
    is_plain = sign and value.count('"') in (0, 2) and value.count("'") in (0, 2)
    return f"  #{text}" if is_plain else ""


def _line(name: str, value: Any) -> str:
    # JSON's texts, numbers and truths are TOML's too, but for one character.
    return f"{name} = {json.dumps(value)}".replace("\x7f", "\\u007f")


def _write(path: Path, text: str) -> None:
    half = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        half.touch(mode=0o600)
        if path.exists():
            half.chmod(path.stat().st_mode & 0o777)
        half.write_text(text, "utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
