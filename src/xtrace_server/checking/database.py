"""Checks whether the database can be reached, and what the start will do to its schema."""

from collections.abc import Iterator
from dataclasses import replace

from xtrace_server.bootstrap import check_not_lost
from xtrace_server.checking.findings import Finding, error, ok, warning
from xtrace_server.settings import Settings
from xtrace_server.storage.dialects import DatabaseUnusable, dialect_of
from xtrace_server.storage.migrating import known_versions, newest_version


def check_database(settings: Settings) -> Iterator[Finding]:
    """Reads the version of the schema; creates and migrates nothing."""
    connections = settings.of_worker.database_connections * settings.workers
    options = replace(settings.database_options, connections=connections)
    database = dialect_of(settings.resolved_database_url, options)
    where = f"The database in {database.location}" if not database.is_shared else _capital(database.location)
    try:
        versions = database.checked_versions(known_versions(), True)
        changes = set(versions) != {newest_version()}
        cautions = database.cautions(changes)
    except DatabaseUnusable as unusable:
        yield error(f"{unusable}; fix it, or name another database")
        return
    except OSError as unusable:
        yield error(f"{where} cannot be used: {unusable.strerror}; change its owner or its mode")
        return
    if not versions:
        yield from _new(settings, where)
    elif changes:
        yield warning(
            f"{where} has an older schema ({', '.join(versions)}), and the server will migrate it to "
            f"{newest_version()}: back it up first (xtrace backup FILE)"
        )
    else:
        yield ok(f"{where} is sound and has the schema of this version ({newest_version()}).")
    yield from map(warning if database.is_shared else error, cautions)


def _new(settings: Settings, where: str) -> Iterator[Finding]:
    try:
        check_not_lost(settings)
    except DatabaseUnusable as missing:
        yield error(str(missing))
    else:
        yield ok(f"{where} is missing or empty: the first start makes the tables, an organisation and its keys.")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
