"""The knowledge bases of an organisation."""

from dataclasses import dataclass, replace

from xtrace_server.auth.guard import Actor
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.paging import Listed, Start, page_of, replace_rows
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts, knowledge_bases, organisations
from xtrace_server.storage.deletions import delete_knowledge_base
from xtrace_server.storage.knowledge_bases import KnowledgeBase, SortKey

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

    `find` is a part of the name, or the beginning of the ID; empty for all. Those being deleted are there too.
    """
    listed = knowledge_bases.listed(actor.organisation_id, find=find, sort_by=sort_by)
    async with state.database.read(actor.organisation_id) as connection:
        found = await page_of(connection, listed, start, PAGE_KNOWLEDGE_BASES, descending=descending)
        bound = await contexts.bound_to(connection, [kb.pk for kb in found.rows])
    return replace_rows(found, [Bound(kb, bound.get(kb.pk, [])) for kb in found.rows])


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
