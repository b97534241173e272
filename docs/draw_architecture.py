"""Draw ARCHITECTURE.md from .importlinter and the rooms' cards, so that it cannot go stale."""

import ast
import configparser
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "src" / "millpond"

TOP = """# Architecture

Millpond is one Python package, `millpond`, laid out as a house: one room (folder) per noun of the
user's world, and imports go down only. This page is drawn from the import contracts in
`.importlinter`, which CI checks, and from the card (docstring) of each room, by
`python3 docs/draw_architecture.py`.

## Rooms, from the roof to the ground

A room may import rooms below it. Rooms on the same line do not know each other.

| rooms | what lives there |
|---|---|
"""

REST = """
## Contracts

{contracts}

## Inside a room

The same file names everywhere, and only those a room needs:

| file | holds | who may import it |
|---|---|---|
| `values.py` | frozen dataclasses and enums; also the response bodies | any room above |
| `requests.py` | what may be sent in, checked by Pydantic | any room above |
| `rules.py` | pure decisions: values in, values or faults out | the room itself |
| `actions.py` | what a person can do; one function is one transaction | any room above |
| `tasks.py` | long work in three moves: load, work (no transaction), settle (fenced) | the room and `main` |
| `tables.py`, `store.py` | all SQL | the room itself |
| `routes.py` | REST; the only file of a room that knows HTTP | `main` |
| `port.py` and adapters | a thing with more than one way to do it | port: any room above; adapters: `main` |

## One request

`millpond run score --input reviews=reviews@7`: the client posts a run request; `pipelines/routes.py`
calls an action, one transaction with calls only downward (may this person run here, does the
dataset version exist, does it fit the form, store the run, put a job in the queue, note it in the
activity log) and commits. A server of the installation leases the job, and `pipelines/tasks.py`
loads the run, hands tasks to the engine with no transaction open, and settles each finished task in
a short transaction that checks the lease's fencing number. Portal, CLI and SDK read the run's row
and follow its live events. Nobody calls upward.

Control plane and data plane are apart: the database holds facts (small), objects hold bytes. Tasks
read and write objects; bytes never travel through the queue, the engine's messages or the database.
"""


def room_card(name: str) -> str:
    """Give the first sentence of a room's docstring, or nothing when the room is not built yet."""
    for path in (HOUSE / name / "__init__.py", HOUSE / f"{name}.py"):
        if path.exists():
            return (
                (ast.get_docstring(ast.parse(path.read_text())) or "")
                .split("\n\n")[0]
                .replace("\n", " ")
            )
    return ""


def draw() -> str:
    """Give the page's text."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    lines = []
    for layer in contracts["importlinter:contract:downward"]["layers"].split("\n"):
        rooms = [room.strip(" ()") for room in layer.split("|") if room.strip()]
        built = [(room, room_card(room)) for room in rooms]
        for room, card in built:
            if card:
                lines.append(f"| `{room}` | {card} |")
    names = [
        f"- {contracts[section]['name']}."
        for section in contracts.sections()
        if section.startswith("importlinter:contract:")
    ]
    return TOP + "\n".join(lines) + "\n" + REST.format(contracts="\n".join(names))


if __name__ == "__main__":
    if "--print" in sys.argv:
        sys.stdout.write(draw())
    else:
        (ROOT / "ARCHITECTURE.md").write_text(draw())
