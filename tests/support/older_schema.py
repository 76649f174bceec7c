"""A database as an older version of the schema had it, for tests of what a newer server does with one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from xtrace_server.storage.migrating import upgrade


def make_older(file: Path, version: str = "0001") -> None:
    """Takes everything out of a SQLite database that versions after this one have added."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        upgrade(connection, version)
        schema = connection.execute(sa.text("SELECT name, sql FROM sqlite_master"))
        kept: dict[str, str] = {name: sql for name, sql in schema if not name.startswith("sqlite_")}
    engine.dispose()
    with closing(sqlite3.connect(file)) as database, database:
        if version < "0005":
            database.execute("DROP INDEX ix_chunk_unsealed")
            for column in ("block_pk", "slot"):
                database.execute(f"ALTER TABLE chunk DROP COLUMN {column}")
        found = database.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        same = {name: sql for _, name, sql in found if name in kept}
        assert same == kept, "a version after this one changed what was there: undo that here too"
        for kind in ("trigger", "index", "table"):
            for name in [name for of, name, _ in found if of == kind and name not in kept]:
                database.execute(f'DROP {kind} "{name}"')
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
