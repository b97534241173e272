"""The migrations and the rooms' tables say the same, on both databases."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from millpond.storage import migrate
from millpond.storage.database import Database, metadata


def test_from_empty_to_the_newest_schema_equals_the_tables(database_url, sqlite_template):
    database = Database(database_url)
    try:
        assert migrate.upgrade(database) == migrate.known_revisions()[-1]
        with database.reading() as tx:
            context = MigrationContext.configure(tx.connection, opts={"compare_type": True})
            assert not compare_metadata(context, metadata)
        assert migrate.upgrade(database) == migrate.known_revisions()[-1]
    finally:
        database.close()
