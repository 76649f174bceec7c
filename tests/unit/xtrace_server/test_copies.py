"""A copy is read back before it appears: one that differs from the original in anything is given up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support.database import open_store
from xtrace_server.storage.copies import copy
from xtrace_server.storage.dialects import DatabaseUnusable, default_url
from xtrace_server.storage.folder_lock import FolderLock
from xtrace_server.storage.sqlite.dialect import Sqlite


@pytest.fixture
async def original(tmp_path: Path) -> Sqlite:
    """A database with three chunks."""
    async with open_store(tmp_path / "original") as store:
        await store.add([{"tag1": "é", "facets": ["b", "a"]}, {}, {"tag5": ""}], name="Notes")
    return Sqlite(f"sqlite+aiosqlite:///{tmp_path}/original/test.db")


class Forgetful(Sqlite):
    """A database that stores something else than it was given of one table."""

    def __init__(self, url: str, table: str, keeps: int, changed: dict[int, Any]) -> None:
        super().__init__(url)
        self._table, self._keeps, self._changed = table, keeps, changed

    def load_rows(self, connection: sa.Connection, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        if table.name == self._table:
            rows = [tuple(self._changed.get(i, value) for i, value in enumerate(row)) for row in rows[: self._keeps]]
        super().load_rows(connection, table, rows)


@pytest.mark.parametrize(
    ("table", "keeps", "changed"),
    [("facet", 1, {}), ("content", 9, {1: "contenT"}), ("ciphertext", 9, {1: b"roW"}), ("chunk", 9, {8: b"nonce"})],
)
def test_a_copy_that_differs_is_given_up(
    table: str, keeps: int, changed: dict[int, Any], original: Sqlite, tmp_path: Path
) -> None:
    target = Forgetful(default_url(tmp_path / "copy"), table, keeps, changed)
    with pytest.raises(DatabaseUnusable, match="differs from what was sent"):
        copy(original, target, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_rows_that_do_not_fit_together_are_refused(original: Sqlite, tmp_path: Path) -> None:
    target = Forgetful(default_url(tmp_path / "copy"), "chunk", 1, {})
    with pytest.raises(DatabaseUnusable, match="cannot be copied: its rows are inconsistent"):
        copy(original, target, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_on_which_a_server_runs_is_refused(original: Sqlite, tmp_path: Path) -> None:
    with FolderLock(tmp_path / "copy", shared=False), pytest.raises(DatabaseUnusable, match="a server runs on"):
        copy(original, Sqlite(default_url(tmp_path / "copy")), tmp_path / "copy")
    assert not list((tmp_path / "copy").iterdir())
