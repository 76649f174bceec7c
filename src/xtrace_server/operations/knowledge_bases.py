"""The knowledge bases of an organisation."""

from dataclasses import dataclass, replace

from xtrace_server.auth.guard import Actor
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts, knowledge_bases, organisations
from xtrace_server.storage.deletions import delete_knowledge_base
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
    """Returns the knowledge bases in the order of their creation; `deleting` adds those that are being deleted."""
    async with state.database.read(actor.organisation_id) as connection:
        return await knowledge_bases.list_all(connection, actor.organisation_id, deleting=deleting)


async def get(state: ServerState, actor: Actor, kb_id: str) -> KnowledgeBase:
    """Returns one knowledge base. Raises `KnowledgeBaseNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        return await knowledge_bases.get(connection, actor.organisation_id, kb_id)


@dataclass(frozen=True, slots=True)
class Listed:
    """A knowledge base with the ids of the contexts that its chunks are stored under."""

    kb: KnowledgeBase
    context_ids: list[str]


@dataclass(frozen=True, slots=True)
class Described:
    """A knowledge base, its contexts, and how many API keys may read and write in it."""

    kb: KnowledgeBase
    context_ids: list[str]
    readers: int
    writers: int


async def list_page(
    state: ServerState, actor: Actor, find: str, sort_by: SortKey, *, descending: bool, page: int
) -> tuple[list[Listed], int]:
    """Returns one page, counted from 1, of the knowledge bases, and how many there are on all pages.

    `find` is what a name has in it, or an id begins with; empty for all. Those being deleted are there too.
    """
    query = ListQuery(
        find=find,
        sort_by=sort_by,
        descending=descending,
        limit=PAGE_KNOWLEDGE_BASES,
        offset=(page - 1) * PAGE_KNOWLEDGE_BASES,
    )
    async with state.database.read(actor.organisation_id) as connection:
        found, total = await knowledge_bases.list_page(connection, actor.organisation_id, query)
        bound = await contexts.bound_to(connection, [kb.pk for kb in found])
    return [Listed(kb, bound.get(kb.pk, [])) for kb in found], total


async def describe(state: ServerState, actor: Actor, kb_id: str) -> Described:
    """Returns one knowledge base with what uses it. Raises `KnowledgeBaseNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
        bound = await contexts.bound_context_ids(connection, kb)
        readers, writers = await organisations.count_access(connection, kb)
    return Described(kb, bound, readers, writers)


@repeatable
async def rename(state: ServerState, actor: Actor, kb_id: str, name: str, description: str) -> KnowledgeBase:
    """Gives a knowledge base another name and description. Raises `KnowledgeBaseNotFound` and `LimitExceeded`."""
    check_names(state.settings, name, description)
    async with writing(state, actor) as connection:
        kb = await knowledge_bases.lock(connection, await knowledge_bases.get(connection, actor.organisation_id, kb_id))
        await knowledge_bases.rename(connection, kb, name, description)
        await record(connection, actor, "knowledge_base.rename", kb.id)
    return replace(kb, name=name, description=description)


@repeatable
@frees_space
async def delete(state: ServerState, actor: Actor, kb_id: str) -> None:
    """Deletes a knowledge base with every chunk in it: it is not found any more, and its rows go step by step.

    Raises `KnowledgeBaseNotFound`.
    """
    async with writing(state, actor) as connection:
        kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
        kb = await knowledge_bases.lock(connection, kb)
        binding_pks = await delete_knowledge_base(connection, kb)
        await record(connection, actor, "knowledge_base.delete", kb.id, f"{kb.number_of_vectors} chunks")
    state.engine.forget(binding_pks)
    state.clearing.tell()
