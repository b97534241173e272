"""Draft a migration from the difference between the newest schema and the rooms' tables.

``./dev migration "what changes"`` writes ``migrations/versions/NNNN_what_changes.py``. Read it,
mend it, and never edit it again once it is released. ``--rooms audit,people`` looks at those only.
"""

import argparse
import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext

import millpond
from millpond.storage import migrate
from millpond.storage.database import Database, metadata

VERSIONS = Path(migrate.__file__).with_name("migrations") / "versions"
HEAD = '''"""{title}."""

import sqlalchemy as sa
from alembic import op

from millpond.storage.database import UtcTime

revision = "{number}"
down_revision = {before}


def upgrade() -> None:
    """Bring the schema to this revision."""
    {body}
'''


def draft(title: str, rooms: set[str]) -> Path:
    root = Path(millpond.__file__).parent
    for path in sorted([*root.rglob("tables.py"), root / "storage" / "events.py"]):
        parts = path.relative_to(root).with_suffix("").parts
        if rooms and parts[0] not in rooms:
            continue
        importlib.import_module(".".join(["millpond", *parts]))
    known = migrate.known_revisions()
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/draft.db")
        if known:
            migrate.upgrade(database)
        with database.reading() as tx:
            options = {
                "compare_type": True,
                "user_module_prefix": "",
                # Tables of rooms that were left out stay as they are.
                "include_name": lambda name, kind, _: (
                    not rooms or kind != "table" or name in metadata.tables
                ),
            }
            context = MigrationContext.configure(tx.connection, opts=options)
            changes = produce_migrations(context, metadata).upgrade_ops
        database.close()
    if changes is None or changes.is_empty():
        sys.exit("The tables and the newest migration agree; nothing to draft.")
    number = f"{int(known[-1]) + 1 if known else 1:04d}"
    body = render_python_code(changes, user_module_prefix="")
    body = re.sub(r" *# ###.*\n?", "", body).strip()
    name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")
    path = VERSIONS / f"{number}_{name}.py"
    before = f'"{known[-1]}"' if known else "None"
    path.write_text(HEAD.format(title=title.rstrip("."), number=number, before=before, body=body))
    for command in (["check", "--fix", "--quiet"], ["format", "--quiet"]):
        subprocess.run([Path(sys.executable).with_name("ruff"), *command, path], check=False)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("title")
    parser.add_argument("--rooms", default="")
    asked = parser.parse_args()
    print(draft(asked.title, set(filter(None, asked.rooms.split(",")))))
