"""What goes into the sandbox runs on Python 3.9: its syntax, and what is worked out as it loads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

KIT = Path(__file__).parents[2] / "src" / "millpond" / "kit"
OLDEST = (3, 9)
NEWER_ARGUMENTS = {"zip": "strict", "dataclass": "slots", "field": "kw_only"}


def faults_of(text: str) -> list[str]:
    """Say what Python 3.9 could not load or run."""
    try:
        tree = ast.parse(text, feature_version=OLDEST)
    except SyntaxError as fault:
        return [f"{fault.lineno}: {fault.msg}"]
    return [*_unions(tree), *_arguments(tree)]


def _unions(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            found = getattr(node, field, None)
            if found is not None and any(
                isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitOr)
                for part in ast.walk(found)
            ):
                yield f"{found.lineno}: a hint with | stands in quotes"


def _arguments(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            newer = NEWER_ARGUMENTS.get(node.func.id)
            if newer and any(keyword.arg == newer for keyword in node.keywords):
                yield f"{node.lineno}: {node.func.id} knows no {newer} yet"


@pytest.mark.parametrize("path", sorted(KIT.glob("*.py")), ids=lambda path: path.name)
def test_the_kit_keeps_to_python_3_9(path: Path) -> None:
    assert not faults_of(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "match x:\n    case 1: pass",
        "def f(x: int | None) -> None: ...",
        "def f() -> int | None: ...",
        "x: int | None = None",
        "zip(a, b, strict=True)",
        "try: pass\nexcept* ValueError: pass",
    ],
)
def test_what_python_3_9_lacks_is_found(text: str) -> None:
    assert faults_of(text)


def test_what_python_3_9_has_is_not() -> None:
    assert not faults_of("def f(x: 'int | None', /, *, y: list[int]) -> None:\n    z = 1 | 2")
