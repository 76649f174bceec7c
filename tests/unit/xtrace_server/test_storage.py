"""The schema, its migrations, and what time does to idempotency keys and last uses."""

from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from support.database import open_store
from xtrace_server.errors import IdempotencyKeyReused
from xtrace_server.storage import idempotency, organisations
from xtrace_server.storage.database import Database
from xtrace_server.storage.filters import successor
from xtrace_server.storage.idempotency import RequestKey
from xtrace_server.storage.organisations import ApiKey
from xtrace_server.storage.schema import MAX_CHUNK_ID, chunk_id_of, chunk_pk, metadata

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")


async def test_migrations_and_schema_agree(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    async with open_store(tmp_path) as store, store.database.look_up() as connection:
        assert await connection.run_sync(differences) == []


def test_a_chunk_key_holds_knowledge_base_and_chunk_id_in_their_order() -> None:
    assert chunk_id_of(chunk_pk(5, 77)) == 77
    assert chunk_pk(5, MAX_CHUNK_ID) < chunk_pk(6, 0)
    assert chunk_pk(2**23 - 1, MAX_CHUNK_ID) == 2**63 - 1


@pytest.mark.parametrize(
    ("prefix", "above"),
    [("a", "b"), ("az", "a{"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("", None), ("\ud7ff", "\ue000")],
)
def test_the_successor_is_above_every_string_with_the_prefix(prefix: str, above: str | None) -> None:
    assert successor(prefix) == above


async def test_idempotency_keys_live_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path) as store, store.database.write() as connection:
        (organisation,) = await organisations.list_all(connection)
        key = ApiKey("k", organisation.id, "aaaaa", "", "", 7, "", None)
        await organisations.add_api_key(connection, key)
        await idempotency.keep_answer(connection, RequestKey("k", "a", b"hash"), b"answer")
        assert await idempotency.find_answer(connection, RequestKey("k", "a", b"hash")) == b"answer"
        assert await idempotency.find_answer(connection, RequestKey("k", "b", b"hash")) is None
        with pytest.raises(IdempotencyKeyReused):
            await idempotency.find_answer(connection, RequestKey("k", "a", b"other"))
        monkeypatch.setattr(idempotency, "LIFETIME", timedelta(seconds=-1))
        assert await idempotency.find_answer(connection, RequestKey("k", "a", b"other")) is None
        await idempotency.keep_answer(connection, RequestKey("k", "a", b"other"), b"new")  # the old one made way


async def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def fail(database: Database) -> None:
        async with database.write() as connection:
            await organisations.create(connection, "lost", "h2")
            raise RuntimeError

    async with open_store(tmp_path) as store:
        with pytest.raises(RuntimeError):
            await fail(store.database)
        async with store.database.look_up() as connection:
            assert len(await organisations.list_all(connection)) == 1
