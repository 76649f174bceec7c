"""An organisation is deleted in steps, each of a bounded size, and takes nothing of another with it."""

from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from support.database import Store, open_store
from support.toy_paillier import toy_key
from xtrace_core.permissions import Permission
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.errors import OrganisationNotFound
from xtrace_server.storage import (
    contexts,
    deletions,
    idempotency,
    knowledge_bases,
    organisation_deletion,
    organisations,
    sessions,
    shared_indexes,
    usage,
    usage_hours,
)
from xtrace_server.storage.database import Connection
from xtrace_server.storage.idempotency import RequestKey
from xtrace_server.storage.schema import metadata, organisation, retired_context
from xtrace_server.storage.shared_indexes import IndexWrite

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")

EACH = 5
INDEX = IndexWrite(kind="records", replaces=0, manifest=b"manifest", segments=[b"hash"])


async def filled(connection: Connection, name: str) -> str:
    """An organisation with five of everything."""
    made = (await organisations.create(connection, name, f"admin of {name}")).id
    for i in range(EACH):
        key, _ = await new_api_key(connection, made, f"key {i}", "", Permission.NONE)
        kb = await knowledge_bases.create(connection, made, f"kb {i}", "")
        await organisations.set_permission(connection, key, kb, 1)
        for j in range(EACH):
            await idempotency.keep_answer(connection, RequestKey(key.hash, f"{j}", b"hash"), b"answer")
        await contexts.create(connection, made, f"context {i}", toy_key().context_data, key.hash)
        bound = await contexts.bind(connection, kb, await contexts.get(connection, made, f"context {i}"))
        await shared_indexes.add_segment(connection, kb, bound.pk, "records", b"hash", b"segment")
        await shared_indexes.put(connection, kb, bound.pk, INDEX)
        values = {"organisation_id": made, "context_id": f"retired {i}", "retired_at": "then"}
        await connection.execute(insert(retired_context).values(values))
        await organisations.add_admin_key(connection, made, f"admin {i} of {name}")
        await usage_hours.add(connection, made, i, {"requests": 1})
        await usage_hours.add_error(connection, made, i, "forbidden", 1, "then")
        await sessions.create(connection, f"session {i} of {name}", made, f"admin {i} of {name}")
    return made


async def counts(store: Store) -> dict[str, int]:
    async with store.database.look_up() as connection:
        return {
            name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
            for name, table in metadata.tables.items()
        }


@pytest.mark.parametrize("rows", [1, 2, 500])
async def test_all_of_it_goes_in_steps_and_nothing_of_another(
    rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organisation_deletion, "_ROWS", rows)
    monkeypatch.setattr(organisation_deletion, "_ANSWERS", rows)
    async with open_store(tmp_path) as store:
        async with store.database.write() as connection:
            kept = await filled(connection, "kept")
        before = await counts(store)
        async with store.database.write() as connection:
            doomed = await filled(connection, "doomed")
            assert not await deletions.is_left(connection)
            await organisation_deletion.mark(connection, doomed)
            assert await deletions.is_left(connection)
        steps, previous = 0, await counts(store)
        while True:
            async with store.database.write() as connection:
                if await deletions.carry_out(connection) is None:
                    break
            now = await counts(store)
            gone = {name: previous[name] - count for name, count in now.items()}
            # A permission or a binding goes with its knowledge base.
            assert all(0 <= count <= rows for name, count in gone.items()), gone
            steps, previous = steps + 1, now
        assert steps >= EACH * 9 // rows
        after = await counts(store)
        assert after.pop("organisation") == before.pop("organisation") + 1
        assert after == before
        async with store.database.look_up() as connection:
            assert not await deletions.is_left(connection)
            assert kept in [one.id for one in await organisations.list_all(connection)]
            assert doomed not in [one.id for one in await organisations.list_all(connection)]
            row = (await connection.execute(select(organisation).where(organisation.c.id == doomed))).one()
            assert (row.name, row.erased_at is None) == ("", False)


async def test_contexts_go_by_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(organisation_deletion, "STEP_BYTES", 1)
    async with open_store(tmp_path) as store:
        async with store.database.write() as connection:
            doomed = await filled(connection, "doomed")
            await organisation_deletion.mark(connection, doomed)
        previous = (await counts(store))["execution_context"]
        while True:
            async with store.database.write() as connection:
                if await deletions.carry_out(connection) is None:
                    break
            now = (await counts(store))["execution_context"]
            assert previous - now <= 1
            previous = now
        assert previous == 1


async def test_what_is_stored_after_the_deletion_fails(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        async with store.database.write() as connection:
            doomed = await filled(connection, "doomed")
            await organisation_deletion.mark(connection, doomed)
        async with store.database.write() as connection:
            with pytest.raises(OrganisationNotFound):
                await usage.add(connection, doomed, chunks=1)
