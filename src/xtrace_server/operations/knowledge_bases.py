"""The knowledge bases of an organisation."""

from dataclasses import dataclass, replace

from xtrace_server.auth.guard import Actor
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.paging import Listed, Start
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts, knowledge_bases, organisations
from xtrace_server.storage.database import Connection
from xtrace_server.storage.deletions import delete_knowledge_base
from xtrace_server.storage.keyset import Position
from xtrace_server.storage.knowledge_bases import KnowledgeBase, ListQuery, SortKey

PAGE_KNOWLEDGE_BASES = 25


@repeatable
async def create(state: ServerState, actor: Actor, name: str, description: str) -> KnowledgeBase:
    """Creates an empty knowledge base. Raises `LimitExceeded`."""
    check_names(state.settings, name, description)
    async with writing(state, actor) as connection:
        kb = await knowledge_bases.create(connection, actor.organisation_id, name, description)
        await record(connection, actor, "knowledge_base.create", kb.id)
    return kb


async def list_all(state: ServerState, actor: Actor, *, deleting: bool = False) -> list[KnowledgeBase]:
    """Returns the knowledge bases in order of creation; `deleting` adds those that are being deleted."""
    async with state.database.read(actor.organisation_id) as connection:
        return await knowledge_bases.list_all(connection, actor.organisation_id, deleting=deleting)


async def get(state: ServerState, actor: Actor, kb_id: str) -> KnowledgeBase:
    """Returns one knowledge base. Raises `KnowledgeBaseNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        return await knowledge_bases.get(connection, actor.organisation_id, kb_id)


@dataclass(frozen=True, slots=True)
class Bound:
    """A knowledge base with the ids of its chunks' contexts."""

    kb: KnowledgeBase
    context_ids: list[str]


@dataclass(frozen=True, slots=True)
class Described:
    """A knowledge base, its contexts, and the numbers of API keys that may read and write in it."""

    kb: KnowledgeBase
    context_ids: list[str]
    readers: int
    writers: int


async def list_page(
    state: ServerState, actor: Actor, find: str, sort_by: SortKey, *, descending: bool, start: Start | None = None
) -> Listed[Bound]:
    """Returns one page of the knowledge bases; without `start`, the first one.

    `find` is part of a name, or the beginning of an id; empty for all. Includes those being deleted.
    """
    query = ListQuery(find=find, sort_by=sort_by, descending=descending, limit=PAGE_KNOWLEDGE_BASES)
    async with state.database.read(actor.organisation_id) as connection:
        found = await page_of(connection, actor.organisation_id, query, start)
        bound = await contexts.bound_to(connection, [kb.pk for kb in found.rows])
    rows = [Bound(kb, bound.get(kb.pk, [])) for kb in found.rows]
    return Listed(rows, found.values, found.total, found.has_more, found.is_first)


async def page_of(
    connection: Connection, organisation_id: str, query: ListQuery, start: Start | None
) -> Listed[KnowledgeBase]:
    """Returns the page that begins at `start`; the first one if the knowledge base there is gone."""
    after = None
    if start is not None:
        after = await knowledge_bases.position_of(connection, organisation_id, start.id, query.sort_by)
        if after is not None and start.value is not None:
            after = _as_seen(after, start.value)
    is_backward = after is not None and start is not None and start.is_before
    wanted = replace(query, after=after, descending=query.descending != is_backward, limit=query.limit + 1)
    found, total = await knowledge_bases.list_page(connection, organisation_id, wanted)
    if is_backward and len(found) <= query.limit:
        return await page_of(connection, organisation_id, query, None)
    rows = found[: query.limit]
    if is_backward:
        rows.reverse()
    values = [getattr(kb, query.sort_by) for kb in rows]
    return Listed(rows, values, total, is_backward or len(found) > query.limit, after is None)


def _as_seen(after: Position, value: str) -> Position:
    """Returns the position with the value that its reader saw, if that is valid."""
    if isinstance(after.value, str):
        return replace(after, value=value)
    is_number = value.isascii() and value.isdigit() and len(value) < 19
    return replace(after, value=int(value)) if is_number else after


async def describe(state: ServerState, actor: Actor, kb_id: str) -> Described:
    """Returns one knowledge base with its contexts and keys. Raises `KnowledgeBaseNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
        bound = await contexts.bound_context_ids(connection, kb)
        readers, writers = await organisations.count_access(connection, kb)
    return Described(kb, bound, readers, writers)


@repeatable
async def rename(state: ServerState, actor: Actor, kb_id: str, name: str, description: str) -> KnowledgeBase:
    """Changes a knowledge base's name and description. Raises `KnowledgeBaseNotFound` and `LimitExceeded`."""
    check_names(state.settings, name, description)
    async with writing(state, actor) as connection:
        kb = await knowledge_bases.lock(connection, await knowledge_bases.get(connection, actor.organisation_id, kb_id))
        await knowledge_bases.rename(connection, kb, name, description)
        await record(connection, actor, "knowledge_base.rename", kb.id)
    return replace(kb, name=name, description=description)


@repeatable
@frees_space
async def delete(state: ServerState, actor: Actor, kb_id: str) -> None:
    """Deletes a knowledge base with all its chunks: it disappears at once, and its rows are deleted in steps.

    Raises `KnowledgeBaseNotFound`.
    """
    async with writing(state, actor) as connection:
        kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
        kb = await knowledge_bases.lock(connection, kb)
        binding_pks = await delete_knowledge_base(connection, kb)
        await record(connection, actor, "knowledge_base.delete", kb.id, f"{kb.number_of_vectors} chunks")
    state.engine.forget(binding_pks)
    state.clearing.tell()
