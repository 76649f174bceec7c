"""What the dashboard says of an organisation as a whole: counted where it is stored."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.schema import api_key, knowledge_base, organisation

_kb = knowledge_base.c


async def count_all(connection: AsyncConnection, organisation_id: str) -> tuple[int, int, int, int]:
    """How many knowledge bases, knowledge bases being deleted, API keys and contexts the organisation has."""
    kbs = select(func.count(), func.count(_kb.deleted_at)).where(_kb.organisation_id == organisation_id)
    everything, deleting = (await connection.execute(kbs)).one()
    mine = (api_key.c.organisation_id == organisation_id, api_key.c.revoked_at.is_(None))
    keys = (await connection.execute(select(func.count()).select_from(api_key).where(*mine))).scalar_one()
    stored = select(organisation.c.contexts).where(organisation.c.id == organisation_id)
    contexts = (await connection.execute(stored)).scalar_one_or_none() or 0
    return everything - deleting, deleting, keys, contexts
