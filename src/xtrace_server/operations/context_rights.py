"""The rights of API keys on stored execution contexts.

A context belongs to the knowledge bases to which it is bound. While unbound, it belongs to the key that saved it and to
keys whose default permission is 7; if it is unknown who saved it, only to the latter.
"""

from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import PermissionDenied
from xtrace_server.storage import contexts, organisations
from xtrace_server.storage.contexts import Context
from xtrace_server.storage.database import Connection


async def check_may_save(connection: Connection, caller: ApiCaller) -> None:
    """Raises `PermissionDenied` for a key without any permission."""
    grants = await organisations.permissions(connection, caller.key)
    if not caller.key.default_permission and not any(grant.permission for grant in grants):
        raise PermissionDenied(
            "the API key has no permission in any knowledge base, so it cannot save an execution context: an admin key "
            "grants it one with PUT /api/v1/keys/{hash}/permissions/{kb_id} (xtrace keys grant)"
        )


async def check_may_read(connection: Connection, caller: ApiCaller, context: Context) -> None:
    """Raises `PermissionDenied` unless the key may read a knowledge base of the context, or has saved the context."""
    bound = {kb.id for kb in await contexts.bound_knowledge_bases(connection, context)}
    if not _may_read(caller, context, bound, await caller.readable(connection)):
        raise PermissionDenied(
            "the API key may not read this execution context: it needs permission 1 on a knowledge base that the "
            "context is bound to, or, if it is unbound, must have saved it or have the default permission 7"
        )


async def list_readable(connection: Connection, caller: ApiCaller) -> list[Context]:
    """Returns the contexts that the key may read, in the order in which they were first saved."""
    stored = await contexts.list_all(connection, caller.organisation_id)
    bound = await contexts.bound_ids(connection, caller.organisation_id)
    kb_ids = await caller.readable(connection)
    return [context for context in stored if _may_read(caller, context, bound.get(context.pk, set()), kb_ids)]


async def check_may_add_secrets(connection: Connection, caller: ApiCaller, context: Context) -> None:
    """Raises `PermissionDenied` unless the key may write in a knowledge base of the context."""
    await _check_may_write(connection, caller, context, "add secrets to")


async def check_may_rotate(connection: Connection, caller: ApiCaller, context: Context) -> None:
    """Raises the same: a key that may move a context's chunks may choose the destination."""
    await _check_may_write(connection, caller, context, "name the successor of")


async def _check_may_write(connection: Connection, caller: ApiCaller, context: Context, act: str) -> None:
    bound = await contexts.bound_knowledge_bases(connection, context)
    pks = {kb.pk for kb in bound}
    grants = await organisations.permissions(connection, caller.key)
    writes = any(grant.kb.pk in pks and grant.permission & Permission.WRITE == Permission.WRITE for grant in grants)
    if not (writes if bound else _owns_unbound(caller, context)):
        raise PermissionDenied(
            f"the API key may not {act} this execution context: it needs permission 3 on a knowledge base that "
            "the context is bound to, or, if it is unbound, must have saved it or have the default permission 7"
        )


async def check_may_replace(connection: Connection, caller: ApiCaller, context: Context) -> None:
    """Raises `PermissionDenied` unless the key may delete in every knowledge base of the context."""
    bound = await contexts.bound_knowledge_bases(connection, context)
    for kb in bound:
        await caller.knowledge_base(connection, kb.id, Permission.DELETE)
    if not bound and not _owns_unbound(caller, context):
        raise PermissionDenied(
            "the execution context is unbound, so only the API key that saved it and keys with the default "
            "permission 7 can replace its secrets, delete or retire it"
        )


def _may_read(caller: ApiCaller, context: Context, bound: set[str], readable: set[str]) -> bool:
    return not bound.isdisjoint(readable) if bound else _owns_unbound(caller, context)


def _owns_unbound(caller: ApiCaller, context: Context) -> bool:
    return caller.key.default_permission == Permission.DELETE or context.saved_by == caller.key.hash
