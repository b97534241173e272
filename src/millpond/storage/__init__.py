"""Storage: the database with its transactions and migrations, live events, and the object store."""
