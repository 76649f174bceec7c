"""The database of the servers of a test. A test that asks for the fixture `database` runs over SQLite and PostgreSQL.

`running_service`, `ServerProcess` and `open_store` look here, so one suite is for both. Over PostgreSQL a test is in
the default tier where its module says so (`POSTGRES_BY_DEFAULT`), and otherwise in the full one. Where the module says
`CLUSTER` it runs in the full tier over SQLite with a Ray cluster too, which holds every knowledge base.
"""

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import pytest

from support import ray_cluster
from support.postgres import NEEDED, Postgres

SQLITE: Final = "sqlite"
POSTGRES: Final = "postgres"
CLUSTER: Final = "cluster"
_TESTS: Final = Path(__file__).parents[1]
_FOR_BOTH: Final = ("contract", "dashboard", "property", "resilience", "unit")
"""The folders of tests that are about the service."""

postgres: Final = Postgres()
"""The one of this process, started when a test first needs it."""
_state = {"now": SQLITE, "started": "", "cluster": ""}
_clusters: Final = ExitStack()


def on_each_database(metafunc: pytest.Metafunc) -> None:
    """Makes a test that asks for `database` one for each, or for those that its module names as `DATABASES`.

    A test with the marker `sqlite` is about the files of SQLite.
    """
    if "database" not in metafunc.fixturenames or metafunc.definition.get_closest_marker("sqlite"):
        return
    if metafunc.definition.path.relative_to(_TESTS).parts[0] not in _FOR_BOTH:
        return
    named = getattr(metafunc.module, "DATABASES", None)
    by_default = named is not None or getattr(metafunc.module, "POSTGRES_BY_DEFAULT", False)
    marks = {
        POSTGRES: [NEEDED] if by_default else [NEEDED, pytest.mark.full],
        CLUSTER: [ray_cluster.NEEDED, pytest.mark.full],
    }
    clusters = (CLUSTER,) if getattr(metafunc.module, "CLUSTER", False) else ()
    each = [pytest.param(one, marks=marks.get(one, [])) for one in (*(named or (SQLITE, POSTGRES)), *clusters)]
    metafunc.parametrize("database", each, indirect=True, scope="session")


def use(database: str) -> None:
    """Servers that are started from now on use this database."""
    if database == POSTGRES and not _state["started"]:
        postgres.start()
        _state["started"] = "yes"
    if database == CLUSTER and not _state["cluster"]:
        _state["cluster"] = _clusters.enter_context(ray_cluster.ray_cluster()).address
    _state["now"] = database


def current() -> str:
    """The database of servers that are started now."""
    return _state["now"]


def database_settings(folder: Path) -> dict[str, Any]:
    """The settings of a server over the folder that name its database, or its cluster."""
    if current() == CLUSTER:
        return {"engine": "ray", "ray_address": _state["cluster"], "ray_min_rows": 0, "ray_segment_rows": 2}
    return {"database_url": postgres.url(folder)} if current() == POSTGRES else {}


def execute(folder: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Runs a statement, with `?` for values, in the database of a server over the folder, and returns the rows."""
    with closing(_connect(folder)) as connection:
        cursor = connection.execute(statement.replace("?", "%s") if current() == POSTGRES else statement, values)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def snapshot(folder: Path, *queries: str) -> list[list[tuple[Any, ...]]]:
    """The rows of each query, as of one moment, while servers may write."""
    with closing(_connect(folder)) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if current() == POSTGRES else "BEGIN")
        return [[tuple(row) for row in connection.execute(query).fetchall()] for query in queries]


def _connect(folder: Path) -> Any:
    if current() == POSTGRES:
        return postgres.connect(folder)
    return sqlite3.connect(folder / "xtrace.db", timeout=60, isolation_level=None)


def stop() -> None:
    """Ends what was started."""
    if _state["started"]:
        postgres.stop()
    _clusters.close()
