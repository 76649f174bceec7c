"""What a search is about, in one statement: a knowledge base, the key's permission in it, a context, their binding."""

from typing import Final, NamedTuple

from sqlalchemy import bindparam
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_server.storage.contexts import BINDING_COLUMNS, Binding
from xtrace_server.storage.knowledge_bases import COLUMNS as KB_COLUMNS
from xtrace_server.storage.organisations import PERMISSION, ApiKey, Grant, grant_from_row
from xtrace_server.storage.schema import binding, execution_context, knowledge_base


class Target(NamedTuple):
    """A knowledge base and a context, which need not be bound to each other."""

    grant: Grant
    public: tuple[str, str] | None
    """The context's `type` and `pk`; None if it is not stored."""
    binding: Binding | None


_kb, _c, _b = knowledge_base.c, execution_context.c, binding.c
_TARGET: Final = (
    PERMISSION.add_columns(_c.type, _c.public_key, *BINDING_COLUMNS)
    .outerjoin(execution_context, (_c.organisation_id == _kb.organisation_id) & (_c.id == bindparam("context_id")))
    .outerjoin(binding, (_b.kb_pk == _kb.pk) & (_b.context_pk == _c.pk))
)
_GRANT_COLUMNS: Final = len(KB_COLUMNS) + 1


async def find(connection: AsyncConnection, key: ApiKey, kb_id: str, context_id: str) -> Target | None:
    """Returns the target in the key's organisation; None if the knowledge base does not exist."""
    values = {
        "key_hash": key.hash,
        "organisation_id": key.organisation_id,
        "kb_id": kb_id,
        "context_id": context_id,
    }
    row = (await connection.execute(_TARGET, values)).one_or_none()
    if row is None:
        return None
    type_, public_key, *bound = row[_GRANT_COLUMNS:]
    return Target(
        grant_from_row(key, row[:_GRANT_COLUMNS]),
        None if type_ is None else (type_, public_key),
        None if bound[0] is None else Binding(*bound),
    )
