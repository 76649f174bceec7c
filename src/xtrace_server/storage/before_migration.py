"""Backs up a database before its schema is migrated: to an archive in the server's data folder."""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from xtrace_server.storage.archiving import back_up
from xtrace_server.storage.dialects import DatabaseUnusable, Dialect
from xtrace_server.storage.migrating import newest_version, version_of

FOLDER: Final = "before-migration"
"""The folder of these backups in the data folder. Only the operator removes them."""
_SPARE_BYTES: Final = 64 * 2**20

_log = logging.getLogger("xtrace")


def back_up_before_migration(database: Dialect, folder: Path) -> Path | None:
    """Writes the backup and returns its file; None for a new, empty database. Blocks.

    `folder` is the server's data folder. Raises `DatabaseUnusable` if the disk does not have enough room, and
    `OSError`; then nothing has changed.
    """
    with database.snapshot() as connection:
        before = version_of(connection)
    if before is None:
        return None
    backups = folder / FOLDER
    backups.mkdir(mode=0o700, parents=True, exist_ok=True)
    needed, free = database.stored_bytes() + _SPARE_BYTES, shutil.disk_usage(backups).free
    if free < needed:
        raise DatabaseUnusable(
            f"the database has schema {before}, this version needs {newest_version()}, and a backup before the change "
            f"needs {needed // 2**20} MiB in {backups}, which has {free // 2**20} MiB free: make room, or write a "
            "backup elsewhere with `xtrace backup` and start with --set backup_before_migration=false"
        )
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
    file = backups / f"schema-{before}-{moment}.tar"
    _log.warning("the database has schema %s, this version needs %s: backing up first", before, newest_version())
    archived = back_up(database, file)
    _log.warning("wrote %s (%d rows, %d bytes): remove it when all is well", file, archived.rows, archived.bytes)
    return file
