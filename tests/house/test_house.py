"""The house rules that no linter knows: sizes, names, private modules, room cards."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "src" / "millpond"
MIGRATIONS = (
    HOUSE / "storage" / "migrations" / "versions"
)  # Drafted by Alembic, one list of tables.
MODULES = sorted(path for path in HOUSE.rglob("*.py") if MIGRATIONS not in path.parents)
PRIVATE = {"rules", "tables", "store", "tasks", "adapters"}
BANNED_NAMES = {"utils", "util", "helpers", "common", "misc", "manager", "base", "service"}
MODULE_LINES, FUNCTION_LINES, PUBLIC_METHODS = 400, 50, 15
COMPOSITION_ROOTS = {"main", "moving", "worker", "portal", "house"}


def room_of(path: Path) -> str:
    inside = path.relative_to(HOUSE).parts
    return inside[0] if len(inside) > 1 else Path(inside[0]).stem


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(node.lineno, f"{node.module}.{name.name}") for name in node.names]
        elif isinstance(node, ast.Import):
            found += [(node.lineno, name.name) for name in node.names]
    return found


def faults_of_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    faults = []
    docstring = ast.get_docstring(node, clean=False) or ""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    lines -= docstring.count("\n") + bool(docstring)
    if lines > FUNCTION_LINES:
        faults.append(f"{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}")
    if any(name.startswith("millpond") for _, name in imported(node)):
        faults.append(f"{node.lineno}: {node.name} imports the house inside itself")
    return faults


def faults_of(path: Path) -> list[str]:
    text = path.read_text()
    tree = ast.parse(text)
    faults = []
    if path.stem in BANNED_NAMES:
        faults.append(f"1: the name {path.stem!r} says nothing; name what the module holds")
    if text.count("\n") > MODULE_LINES:
        faults.append(f"1: {text.count(chr(10))} lines, at most {MODULE_LINES}")
    is_card = path.name == "__init__.py" and path.parent not in (HOUSE, HOUSE / "kit")
    if is_card and (not ast.get_docstring(tree) or len(tree.body) != 1):
        faults.append("1: a room's __init__ holds its card (a docstring) and nothing else")
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            faults += faults_of_function(node)
        if isinstance(node, ast.ClassDef):
            functions = (ast.FunctionDef, ast.AsyncFunctionDef)
            public = [n for n in node.body if isinstance(n, functions) and n.name[0] != "_"]
            if len(public) > PUBLIC_METHODS:
                faults.append(f"{node.lineno}: {node.name} has {len(public)} public methods")
    return faults + private_imports(path, tree)


def private_imports(path: Path, tree: ast.AST) -> list[str]:
    faults = []
    for line, name in imported(tree):
        parts = name.split(".")
        own = {room_of(path)} & {parts[min(1, len(parts) - 1)], *COMPOSITION_ROOTS}
        if parts[0] == "millpond" and not own and PRIVATE.intersection(parts[2:]):
            faults.append(f"{line}: {name} is private to the room {parts[1]}")
    return faults


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_module_keeps_the_house_rules(path: Path) -> None:
    faults = faults_of(path)
    assert not faults, "\n".join(f"{path.relative_to(ROOT)}:{fault}" for fault in faults)


def tracked() -> list[Path]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True
    ).stdout.decode()
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_package_host() -> None:
    hosts = re.compile(
        rb"(files\.)?pythonhosted\.org|pypi\.org/simple|registry\.npmjs|--index-url[ =]+https?://(?!\S*example\.)"
    )
    named = [
        str(path.relative_to(ROOT))
        for path in tracked()
        if path != Path(__file__) and hosts.search(path.read_bytes())
    ]
    assert not named


def test_locks_pin_every_requirement_by_hash_and_record_no_address() -> None:
    for lock in sorted((ROOT / "locks").glob("*.txt")):
        text = lock.read_text()
        assert "://" not in text, lock.name
        requirements = re.split(r"\n(?=[A-Za-z0-9])", text.strip())
        assert requirements, lock.name
        bare = [r.split()[0] for r in requirements if "--hash=sha256:" not in r]
        assert not bare, f"{lock.name}: {bare}"


def test_every_pinned_dependency_is_explained_in_the_readme() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert listed
    names = re.findall(r'"([A-Za-z0-9-]+)', listed.group(1))
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in names if f"`{name}`" not in readme]


def test_architecture_page_is_drawn_from_the_contracts() -> None:
    drawn = subprocess.run(
        ["python3", "docs/draw_architecture.py", "--print"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert (ROOT / "ARCHITECTURE.md").read_text() == drawn, "run python3 docs/draw_architecture.py"


@pytest.mark.parametrize("path", sorted((HOUSE / "kit").glob("*.py")), ids=lambda p: p.name)
def test_what_goes_into_the_sandbox_loads_the_standard_library_alone(path: Path) -> None:
    loaded = [
        name.split(".")[0]
        for node in ast.parse(path.read_text()).body
        for _, name in imported(node)
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef))
    ]
    assert not set(loaded) - sys.stdlib_module_names
