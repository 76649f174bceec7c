"""Execution contexts, and their bindings to knowledge bases."""

import msgspec

from xtrace_core import wire
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import ContextDiffers, ContextInUse, ContextNotFound, ContextRetired, InvalidRequest
from xtrace_server.limits.sizes import check_context
from xtrace_server.operations.context_rights import (
    check_may_add_secrets,
    check_may_read,
    check_may_replace,
    check_may_rotate,
    check_may_save,
    list_readable,
)
from xtrace_server.operations.evaluations import evaluation_of
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts
from xtrace_server.storage.contexts import Context
from xtrace_server.storage.database import Connection


@repeatable
async def save(
    state: ServerState, caller: ApiCaller, context_id: str, data: wire.ContextData, name: str | None = None
) -> str:
    """Stores a context, or adds to a stored one, whose public part never changes. Returns its id.

    If another context already has the name, stores nothing and returns that context's id. Raises `LimitExceeded`,
    `InvalidRequest`, `ContextDiffers`, `ContextRetired` and `PermissionDenied`.
    """
    check_context(state.settings, data)
    _check_public_part(state.schemes, data)
    async with writing(state, caller) as connection:
        await check_may_save(connection, caller)
        holder = None if name is None else await contexts.find_named(connection, caller.organisation_id, name)
        if holder is not None and holder.id != context_id:
            await check_may_read(connection, caller, holder)
            return holder.id
        stored = await contexts.find(connection, caller.organisation_id, context_id)
        if stored is not None:
            await contexts.lock(connection, stored)
            stored = await contexts.get(connection, caller.organisation_id, context_id)
            await _save_again(connection, caller, stored, data, name)
            return context_id
        if await contexts.is_retired(connection, caller.organisation_id, context_id):
            raise ContextRetired(context_id)
        await contexts.create(connection, caller.organisation_id, context_id, data, caller.key.hash, name)
    return context_id


async def named(state: ServerState, caller: ApiCaller, name: str) -> str:
    """Returns the id of the context that was saved under the name. Raises `ContextNotFound`, `PermissionDenied`."""
    async with state.database.read(caller.organisation_id) as connection:
        context = await contexts.find_named(connection, caller.organisation_id, name)
        if context is None:
            raise ContextNotFound(name)
        await check_may_read(connection, caller, context)
    return context.id


async def list_all(state: ServerState, caller: ApiCaller) -> list[Context]:
    """Returns the contexts that the key may read, in the order in which they were first saved."""
    async with state.database.read(caller.organisation_id) as connection:
        return await list_readable(connection, caller)


async def get(state: ServerState, caller: ApiCaller, context_id: str) -> wire.ContextData:
    """Returns a context as stored. Raises `ContextNotFound` and `PermissionDenied`."""
    async with state.database.read(caller.organisation_id) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await check_may_read(connection, caller, context)
        return context.data


@repeatable
@frees_space
async def delete(state: ServerState, caller: ApiCaller, context_id: str) -> None:
    """Deletes a context. Raises `ContextNotFound`, `PermissionDenied` and, while chunks use it, `ContextInUse`."""
    async with writing(state, caller) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await contexts.lock_with_bound(connection, context)
        await check_may_replace(connection, caller, context)
        if await contexts.is_in_use(connection, context):
            raise ContextInUse("chunks are stored under the execution context: delete them first")
        await contexts.remove(connection, caller.organisation_id, context)


@repeatable
async def retire(state: ServerState, caller: ApiCaller, context_id: str) -> None:
    """Retires a context permanently: nothing new is stored under it.

    Stored chunks can be read, moved and deleted. Raises `ContextNotFound` and `PermissionDenied`.
    """
    async with writing(state, caller) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await contexts.lock_with_bound(connection, context)
        await check_may_replace(connection, caller, context)
        await contexts.retire(connection, caller.organisation_id, context_id)


async def get_successor(state: ServerState, caller: ApiCaller, context_id: str) -> str | None:
    """Returns the id of the context to which a rotation moves this context's chunks, or None.

    Raises `ContextNotFound` and `PermissionDenied`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await check_may_read(connection, caller, context)
        return await contexts.find_successor(connection, context)


@repeatable
async def store_successor(
    state: ServerState, caller: ApiCaller, context_id: str, change: wire.StoreSuccessor
) -> str | None:
    """Stores the successor if the current one equals `replaces`. Returns the one that is then stored.

    Raises `ContextNotFound` and `PermissionDenied`.
    """
    async with writing(state, caller) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        await check_may_rotate(connection, caller, context)
        return await contexts.exchange_successor(connection, context, change.replaces, change.successor)


async def of_knowledge_base(state: ServerState, caller: ApiCaller, kb_id: str) -> list[str]:
    """Returns the ids of the contexts bound to a knowledge base. Raises `KnowledgeBaseNotFound`."""
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        return await contexts.bound_context_ids(connection, kb)


async def knowledge_bases_of(state: ServerState, caller: ApiCaller, context_id: str) -> list[str]:
    """Returns the ids of the context's knowledge bases that the key may read. Raises `ContextNotFound`."""
    async with state.database.read(caller.organisation_id) as connection:
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.bound_knowledge_bases(connection, context)
        readable = await caller.readable(connection)
    return [kb.id for kb in bound if kb.id in readable]


@repeatable
async def bind(state: ServerState, caller: ApiCaller, kb_id: str, context_id: str) -> None:
    """Binds a context to a knowledge base; an existing binding stays.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound` and `ContextRetired`.
    """
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, kb_id)
        context = await contexts.get_for_writing(connection, caller.organisation_id, context_id)
        await contexts.bind(connection, kb, context)


async def get_name_salt(state: ServerState, caller: ApiCaller, kb_id: str, context_id: str) -> bytes | None:
    """Returns the salt for the names of a context's chunks in a knowledge base, or None.

    Raises `KnowledgeBaseNotFound` and `ContextNotFound`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.find_binding(connection, kb, context)
    return None if bound is None else bound.name_salt


@repeatable
async def store_name_salt(
    state: ServerState, caller: ApiCaller, kb_id: str, context_id: str, change: wire.StoreNameSalt
) -> bytes | None:
    """Binds the context, and stores the salt if the current one equals `replaces`. Returns the one then stored.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound` and `ContextRetired`.
    """
    async with state.database.read(caller.organisation_id) as connection:
        kb = await caller.knowledge_base(connection, kb_id)
        context = await contexts.get(connection, caller.organisation_id, context_id)
        bound = await contexts.find_binding(connection, kb, context)
    if bound is None or bound.name_salt == change.replaces:
        async with writing(state, caller) as connection:
            kb = await caller.locked(connection, kb.id)
            bound = await contexts.bind(connection, kb, context)
            bound = await contexts.exchange_name_salt(connection, bound, change.replaces, change.salt)
    return bound.name_salt


def _check_public_part(schemes: SchemeRegistry, data: wire.ContextData) -> None:
    evaluation_of(schemes, data.type, data.pk)
    try:
        msgspec.json.decode(data.config.encode(), type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidRequest("data.config is not a JSON text") from None


async def _save_again(
    connection: Connection, caller: ApiCaller, stored: Context, data: wire.ContextData, name: str | None
) -> None:
    if name not in (None, stored.name):
        raise ContextDiffers(
            "the execution context was already saved without this name: only a new context can get a name"
        )
    for field in ("type", "pk", "config"):
        if getattr(data, field) != getattr(stored.data, field):
            raise ContextDiffers(f"an execution context with a different {field} is stored under this id")
    secrets = ("sk", "key_provider", "wrapped_key")
    changed = [name for name in secrets if getattr(data, name) not in (None, getattr(stored.data, name))]
    if any(getattr(stored.data, name) is not None for name in changed):
        await check_may_replace(connection, caller, stored)
    elif changed:
        await check_may_add_secrets(connection, caller, stored)
    if changed:
        await contexts.replace_secret(connection, caller.organisation_id, stored, data)
