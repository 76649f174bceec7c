"""Summaries of an organisation for the dashboard, counted by the database."""

from collections.abc import Collection

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.wire import TAGS
from xtrace_server.storage.indexed_text import compares
from xtrace_server.storage.schema import api_key, chunk, execution_context, facet, knowledge_base, organisation

_kb = knowledge_base.c


async def fields_in_use(connection: AsyncConnection, binding_pks: Collection[int]) -> dict[int, list[str]]:
    """Returns which tags and facets the chunks of each binding use, for at most a hundred bindings.

    Each is a single index look-up.
    """
    column = chunk.c
    found: dict[int, list[str]] = {}
    for binding_pk in binding_pks:
        of = column.binding_pk == binding_pk
        tags = [exists().where(of, compares(column[tag], "gt", "")) for tag in TAGS]
        facets = exists().where(facet.c.binding_pk == binding_pk)
        row = (await connection.execute(select(*tags, facets))).one()
        found[binding_pk] = [name for name, is_used in zip((*TAGS, "facets"), row, strict=True) if is_used]
    return found


async def count_names(connection: AsyncConnection, organisation_id: str) -> tuple[int, int]:
    """Returns the numbers of knowledge bases with a description, and of contexts with a name."""
    described = (_kb.organisation_id == organisation_id, _kb.deleted_at.is_(None), _kb.description != "")
    named = (execution_context.c.organisation_id == organisation_id, execution_context.c.name.is_not(None))
    descriptions = await connection.execute(select(func.count()).select_from(knowledge_base).where(*described))
    names = await connection.execute(select(func.count()).select_from(execution_context).where(*named))
    return descriptions.scalar_one(), names.scalar_one()


async def count_all(connection: AsyncConnection, organisation_id: str) -> tuple[int, int, int, int]:
    """Returns the numbers of knowledge bases, knowledge bases being deleted, API keys and contexts."""
    # Each uses only an index; the few knowledge bases being deleted have a separate one.
    mine = _kb.organisation_id == organisation_id
    kbs = select(func.count()).select_from(knowledge_base)
    everything = (await connection.execute(kbs.where(mine))).scalar_one()
    deleting = (await connection.execute(kbs.where(_kb.deleted_at.is_not(None), mine))).scalar_one()
    usable = (api_key.c.organisation_id == organisation_id, api_key.c.revoked_at.is_(None))
    keys = (await connection.execute(select(func.count()).select_from(api_key).where(*usable))).scalar_one()
    stored = select(organisation.c.contexts).where(organisation.c.id == organisation_id)
    contexts = (await connection.execute(stored)).scalar_one_or_none() or 0
    return everything - deleting, deleting, keys, contexts
