"""The versions of the schema, and migrations between them."""

from collections.abc import Collection
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def known_versions() -> Collection[str]:
    """Returns the versions of the schema that this version of XTrace knows."""
    return {script.revision for script in _scripts().walk_revisions()}


def version_of(connection: Connection) -> str | None:
    """Returns the version of the database's schema, None if it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_version() -> str:
    """Returns the version of the schema that this version of XTrace uses."""
    return _scripts().get_current_head() or ""


def is_current(connection: Connection) -> bool:
    """Returns whether the database has the newest version of the schema."""
    return version_of(connection) == newest_version()


def upgrade(connection: Connection, version: str = "head") -> None:
    """Migrates the database to a version of the schema, by default the newest, in the connection's transaction."""
    config = _migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, version)


@cache  # reading them executes every one
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_migrations())


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    return config
