import shutil
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from millpond.ground.errors import ConflictError
from millpond.storage import migrate
from millpond.storage.database import Database

SOURCE = Path(migrate.__file__).with_name("migrations")
HEAD = """
import sqlalchemy as sa
from alembic import op
revision = {revision!r}
down_revision = {before!r}
def upgrade() -> None:
"""


def write(folder, number, body, title="change"):
    revision, before = f"{number:04}", f"{number - 1:04}" if number > 1 else None
    text = HEAD.format(revision=revision, before=before)
    path = folder / "versions" / f"{revision}_{title}.py"
    path.write_text(text + "".join(f"    {line}\n" for line in body))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "50% migrations"
    (made / "versions").mkdir(parents=True)
    shutil.copy(SOURCE / "env.py", made)
    write(made, 1, ['op.create_table("pond", sa.Column("id", sa.Integer, primary_key=True))'])
    return made


@pytest.fixture
def empty(database_url):
    opened = Database(database_url)
    yield opened
    opened.close()


def tables(database):
    with database.reading() as tx:
        return set(sa.inspect(tx.connection).get_table_names())


def test_migrates_an_empty_database_and_then_only_what_is_new(empty, folder):
    assert migrate.upgrade(empty, folder) == "0001"
    assert tables(empty) == {"pond", "alembic_version"}
    assert migrate.upgrade(empty, folder) == "0001"
    write(folder, 2, ['op.add_column("pond", sa.Column("name", sa.String(9)))'])
    assert migrate.upgrade(empty, folder) == "0002"
    with empty.reading() as tx:
        assert {column["name"] for column in sa.inspect(tx.connection).get_columns("pond")} == {
            "id",
            "name",
        }


def test_refuses_a_newer_schema_and_says_why(empty, folder):
    write(folder, 2, ["pass"])
    migrate.upgrade(empty, folder)
    (folder / "versions" / "0002_change.py").unlink()
    with pytest.raises(ConflictError, match=r"revision 0002.*newest is 0001"):
        migrate.upgrade(empty, folder)


def test_a_failed_migration_changes_nothing(empty, folder):
    migrate.upgrade(empty, folder)
    write(folder, 2, ['op.create_table("lake", sa.Column("id", sa.Integer))', "1 / 0"])
    with pytest.raises(ZeroDivisionError):
        migrate.upgrade(empty, folder)
    assert tables(empty) == {"pond", "alembic_version"}
    write(folder, 2, ['op.create_table("lake", sa.Column("id", sa.Integer))'])
    assert migrate.upgrade(empty, folder) == "0002"


def test_several_servers_that_start_at_once_migrate_once(database_url, folder):
    write(folder, 2, ['op.create_table("lake", sa.Column("id", sa.Integer))'])
    outcomes = []

    def start():
        database = Database(database_url)
        try:
            outcomes.append(migrate.upgrade(database, folder))
        finally:
            database.close()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == ["0002"] * 3


def test_sqlite_can_rebuild_a_table_that_others_refer_to(tmp_path, folder):
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    write(
        folder,
        2,
        [
            'op.create_table("fish", sa.Column("pond_id", sa.Integer, sa.ForeignKey("pond.id")))',
            'op.execute("INSERT INTO pond (id) VALUES (1)")',
            'op.execute("INSERT INTO fish (pond_id) VALUES (1)")',
        ],
    )
    migrate.upgrade(database, folder)
    write(
        folder,
        3,
        [
            'with op.batch_alter_table("pond", recreate="always") as change:',
            '    change.add_column(sa.Column("name", sa.String(9)))',
        ],
    )
    migrate.upgrade(database, folder)
    with database.reading() as tx:
        assert tx.scalar(sa.text("SELECT count(*) FROM fish JOIN pond ON pond_id = pond.id")) == 1
        assert tx.scalar(sa.text("PRAGMA foreign_keys")) == 1
    write(folder, 4, ['op.execute("DELETE FROM pond")'])
    with pytest.raises(ConflictError, match="fish"):
        migrate.upgrade(database, folder)
    database.close()


def test_our_own_migrations_make_the_schema_of_the_tables(empty, whole_schema):
    migrate.upgrade(empty)
    with empty.reading() as tx:
        context = MigrationContext.configure(tx.connection)
        assert compare_metadata(context, whole_schema) == []


def test_every_migration_is_named_after_its_revision():
    files = [path.name for path in (SOURCE / "versions").glob("*.py")]
    known = migrate.known_revisions()
    assert len(known) == len(files)
    assert known == [f"{number + 1:04}" for number in range(len(known))]
