"""The knowledge bases of an organisation."""

from xtrace_server.auth.guard import Actor
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import knowledge_bases
from xtrace_server.storage.deletions import delete_knowledge_base
from xtrace_server.storage.knowledge_bases import KnowledgeBase


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
