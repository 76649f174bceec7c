"""Execution contexts and their bindings to knowledge bases."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_server.auth.guard import MEMBER, READER, WRITER, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import ApiCallerDep, StateDep, query_boolean
from xtrace_server.operations import contexts

router = APIRouter(prefix="/v1")


@router.post("/exec_context/{org}")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403, 409))
async def save(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.SaveContext, Depends(body_of(wire.SaveContext))],
) -> Response:
    """Stores a context, or adds to a stored one, whose public part never changes."""
    return json_answer(wire.SavedContext(await contexts.save(state, caller, body.context_id, body.data, body.name)))


@router.get("/exec_context/{org}")
@requires(MEMBER)
@describes(
    wire.ContextList,
    Parameter("restorable", {"type": "boolean", "default": False}),
    Parameter("details", {"type": "boolean", "default": False}),
)
async def list_all(request: Request, state: StateDep, caller: ApiCallerDep) -> Response:
    """Returns the ids of the contexts that the key may read. `restorable=true` adds the ids of those that can be
    restored; `details=true` adds the type and creation time of each.
    """
    asked, detailed = query_boolean(request, "restorable"), query_boolean(request, "details")
    found = await contexts.list_all(state, caller)
    answer = wire.ContextList([one.id for one in found])
    if asked:
        answer.restorable = [one.id for one in found if one.can_be_restored]
    if detailed:
        answer.details = [
            wire.ListedContext(one.id, one.data.type, one.created_at, one.can_be_restored) for one in found
        ]
    return json_answer(answer)


@router.get("/exec_context/{org}/{context_id}")
@requires(MEMBER)
@describes(wire.ContextData, statuses=(403,))
async def get(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Returns the context's data as stored."""
    return json_answer(await contexts.get(state, caller, context_id))


@router.delete("/exec_context/{org}/{context_id}")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403, 409))
async def delete(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Deletes a context under which no chunks are stored."""
    await contexts.delete(state, caller, context_id)
    return json_answer(wire.SavedContext(context_id))


@router.post("/exec_context/{org}/{context_id}/retire")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403,))
async def retire(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Retires a context permanently: it accepts no new data. Stored chunks can still be read, moved and deleted."""
    await contexts.retire(state, caller, context_id)
    return json_answer(wire.SavedContext(context_id))


@router.get("/exec_context/{org}/{context_id}/successor")
@requires(MEMBER)
@describes(wire.Successor, statuses=(403,))
async def get_successor(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Returns the id of the context to which a rotation moves this context's chunks, or null."""
    return json_answer(wire.Successor(await contexts.get_successor(state, caller, context_id)))


@router.put("/exec_context/{org}/{context_id}/successor")
@requires(MEMBER)
@describes(wire.Successor, statuses=(403,))
async def store_successor(
    state: StateDep,
    caller: ApiCallerDep,
    context_id: str,
    body: Annotated[wire.StoreSuccessor, Depends(body_of(wire.StoreSuccessor))],
) -> Response:
    """Stores the successor if the current one equals `replaces`. Returns the one that is then stored."""
    return json_answer(wire.Successor(await contexts.store_successor(state, caller, context_id, body)))


@router.get("/exec_context/{org}/{kb_id}/context")
@requires(READER)
@describes(wire.KnowledgeBaseContexts)
async def of_knowledge_base(state: StateDep, caller: ApiCallerDep, kb_id: str) -> Response:
    """Returns the ids of the contexts bound to a knowledge base."""
    return json_answer(wire.KnowledgeBaseContexts(await contexts.of_knowledge_base(state, caller, kb_id)))


@router.get("/exec_context/{org}/{context_id}/kb")
@requires(MEMBER)
@describes(wire.ContextKnowledgeBases)
async def knowledge_bases_of(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Returns the ids of the knowledge bases to which a context is bound, as far as the key may read them."""
    return json_answer(wire.ContextKnowledgeBases(await contexts.knowledge_bases_of(state, caller, context_id)))


@router.post("/exec_context/{org}/{kb_id}/bind/{context_id}")
@requires(WRITER)
@describes(wire.Binding, statuses=(409,))
async def bind(state: StateDep, caller: ApiCallerDep, kb_id: str, context_id: str) -> Response:
    """Binds a context to a knowledge base; repeating this changes nothing."""
    await contexts.bind(state, caller, kb_id, context_id)
    return json_answer(wire.Binding(kb_id, context_id))


@router.get("/exec_context/{org}/{kb_id}/name_salt/{context_id}")
@requires(READER)
@describes(wire.NameSalt)
async def get_name_salt(state: StateDep, caller: ApiCallerDep, kb_id: str, context_id: str) -> Response:
    """Returns the salt for the names of the context's chunks in a knowledge base, or null."""
    return json_answer(wire.NameSalt(await contexts.get_name_salt(state, caller, kb_id, context_id)))


@router.put("/exec_context/{org}/{kb_id}/name_salt/{context_id}")
@requires(WRITER)
@describes(wire.NameSalt, statuses=(409,))
async def store_name_salt(
    state: StateDep,
    caller: ApiCallerDep,
    kb_id: str,
    context_id: str,
    body: Annotated[wire.StoreNameSalt, Depends(body_of(wire.StoreNameSalt))],
) -> Response:
    """Binds the context, and stores the salt if the current one equals `replaces`. Returns the one then stored."""
    return json_answer(wire.NameSalt(await contexts.store_name_salt(state, caller, kb_id, context_id, body)))


@router.get("/exec_context_name/{org}/{name}")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403,))
async def named(state: StateDep, caller: ApiCallerDep, name: str) -> Response:
    """Returns the id of the context that was saved under a name."""
    return json_answer(wire.SavedContext(await contexts.named(state, caller, name)))
