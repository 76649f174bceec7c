"""Execution contexts and their bindings to knowledge bases."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.auth.guard import MEMBER, READER, WRITER, ApiCaller, requires
from xtrace_server.errors import ContextDiffers, ContextInUse, ContextRetired, InvalidRequest, PermissionDenied
from xtrace_server.http.answers import evaluation, json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.requests import ApiCallerDep, StateDep
from xtrace_server.limits.sizes import check_context
from xtrace_server.storage import contexts, knowledge_bases
from xtrace_server.storage.contexts import Context

router = APIRouter(prefix="/v1/exec_context")


@router.post("/{org}")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403, 409))
async def save(
    state: StateDep,
    caller: ApiCallerDep,
    body: Annotated[wire.SaveContext, Depends(body_of(wire.SaveContext))],
) -> Response:
    """Stores a context, or adds to a stored one; its public part never changes."""
    check_context(state.settings, body.data)
    _check_public_part(state.schemes, body.data)
    async with state.database.write() as connection:
        stored = await contexts.find(connection, caller.organisation_id, body.context_id)
        if stored is None:
            if await contexts.is_retired(connection, caller.organisation_id, body.context_id):
                raise ContextRetired(body.context_id)
            await contexts.create(connection, caller.organisation_id, body.context_id, body.data)
        else:
            await _save_again(connection, caller, stored, body.data)
    return json_answer(wire.SavedContext(body.context_id))


@router.get("/{org}")
@requires(MEMBER)
@describes(wire.ContextList)
async def list_all(state: StateDep, caller: ApiCallerDep) -> Response:
    """The ids of the organisation's contexts."""
    async with state.database.read() as connection:
        return json_answer(wire.ContextList(await contexts.list_ids(connection, caller.organisation_id)))


@router.get("/{org}/{context_id}")
@requires(MEMBER)
@describes(wire.ContextData)
async def get(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """The context's data as stored."""
    async with state.database.read() as connection:
        return json_answer((await contexts.get(connection, caller.organisation_id, context_id)).data)


@router.delete("/{org}/{context_id}")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403, 409))
async def delete(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Deletes a context that no chunk is stored under."""
    async with state.database.write() as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await _check_may_replace(connection, caller, context)
        if await contexts.is_in_use(connection, context):
            raise ContextInUse("chunks are stored under the execution context: delete them first")
        await contexts.remove(connection, context)
    return json_answer(wire.SavedContext(context_id))


@router.post("/{org}/{context_id}/retire")
@requires(MEMBER)
@describes(wire.SavedContext, statuses=(403,))
async def retire(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """Retires a context for good: nothing more is stored under it. What is stored can be read, moved and deleted."""
    async with state.database.write() as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.bound_knowledge_bases(connection, context)
        if not bound and caller.key.default_permission != Permission.DELETE:  # this cannot be undone, so not anybody's
            raise PermissionDenied(
                "an execution context that is bound to no knowledge base is retired by a key for all of them"
            )
        await _check_may_replace(connection, caller, context)
        for kb in bound:
            await knowledge_bases.lock(connection, kb)  # so that what is being written under it is stored before
        await contexts.retire(connection, caller.organisation_id, context_id)
    return json_answer(wire.SavedContext(context_id))


@router.get("/{org}/{kb_id}/context")
@requires(READER)
@describes(wire.KnowledgeBaseContexts)
async def of_knowledge_base(state: StateDep, caller: ApiCallerDep, kb_id: str) -> Response:
    """The ids of the contexts bound to a knowledge base."""
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        return json_answer(wire.KnowledgeBaseContexts(await contexts.bound_context_ids(connection, kb)))


@router.get("/{org}/{context_id}/kb")
@requires(MEMBER)
@describes(wire.ContextKnowledgeBases)
async def knowledge_bases_of(state: StateDep, caller: ApiCallerDep, context_id: str) -> Response:
    """The ids of the knowledge bases that a context is bound to, as far as the key may read them."""
    async with state.database.read() as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.bound_knowledge_bases(connection, context)
        readable = await caller.readable(connection)
    return json_answer(wire.ContextKnowledgeBases([kb.id for kb in bound if kb.id in readable]))


@router.post("/{org}/{kb_id}/bind/{context_id}")
@requires(WRITER)
@describes(wire.Binding, statuses=(409,))
async def bind(state: StateDep, caller: ApiCallerDep, kb_id: str, context_id: str) -> Response:
    """Binds a context to a knowledge base; again is the same."""
    async with state.database.write() as connection:
        kb = await knowledge_bases.lock(connection, await caller.knowledge_base(connection, kb_id))
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await contexts.check_not_retired(connection, [context.pk])
        await contexts.bind(connection, kb, context)
    return json_answer(wire.Binding(kb_id, context_id))


@router.get("/{org}/{kb_id}/name_salt/{context_id}")
@requires(READER)
@describes(wire.NameSalt)
async def get_name_salt(state: StateDep, caller: ApiCallerDep, kb_id: str, context_id: str) -> Response:
    """The salt for the names of the context's chunks in a knowledge base, null if none is stored."""
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.find_binding(connection, kb, context)
    return json_answer(wire.NameSalt(None if bound is None else bound.name_salt))


@router.put("/{org}/{kb_id}/name_salt/{context_id}")
@requires(WRITER)
@describes(wire.NameSalt, statuses=(409,))
async def store_name_salt(
    state: StateDep,
    caller: ApiCallerDep,
    kb_id: str,
    context_id: str,
    body: Annotated[wire.StoreNameSalt, Depends(body_of(wire.StoreNameSalt))],
) -> Response:
    """Binds the context, and stores the salt if the stored one equals `replaces`. Answers the one stored then."""
    async with state.database.read() as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.find_binding(connection, kb, context)
    if bound is None or bound.name_salt == body.replaces:
        async with state.database.write() as connection:
            kb = await knowledge_bases.lock(connection, kb)
            await contexts.check_not_retired(connection, [context.pk])
            bound = await contexts.bind(connection, kb, context)
            bound = await contexts.exchange_name_salt(connection, bound, body.replaces, body.salt)
    return json_answer(wire.NameSalt(bound.name_salt))


def _check_public_part(schemes: SchemeRegistry, data: wire.ContextData) -> None:
    evaluation(schemes, data.type, data.pk)
    try:
        msgspec.json.decode(data.config.encode(), type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidRequest("data.config is no JSON text") from None


async def _save_again(connection: AsyncConnection, caller: ApiCaller, stored: Context, data: wire.ContextData) -> None:
    for field in ("type", "pk", "config"):
        if getattr(data, field) != getattr(stored.data, field):
            raise ContextDiffers(f"an execution context is stored under this id with another {field}")
    secrets = ("sk", "key_provider", "wrapped_key")
    changed = [name for name in secrets if getattr(data, name) not in (None, getattr(stored.data, name))]
    if any(getattr(stored.data, name) is not None for name in changed):
        await _check_may_replace(connection, caller, stored)
    if changed:
        await contexts.replace_secret(connection, stored, data)


async def _check_may_replace(connection: AsyncConnection, caller: ApiCaller, context: Context) -> None:
    for kb in await contexts.bound_knowledge_bases(connection, context):
        await caller.knowledge_base(connection, kb.id, Permission.DELETE)
