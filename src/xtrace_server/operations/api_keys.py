"""The API keys of an organisation, and their permissions."""

from datetime import UTC, datetime

from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import Actor
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.errors import InvalidRequest
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.writing import repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import knowledge_bases, organisations
from xtrace_server.storage.database import format_time
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.organisations import ApiKey


@repeatable
async def create(
    state: ServerState, actor: Actor, name: str, description: str, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Creates an API key without any permission; returns it as stored, and the secret, which only the caller has.

    Without `expires_at`, a time with its zone, it does not expire. Raises `LimitExceeded` and `InvalidRequest`.
    """
    check_names(state.settings, name, description)
    until = None if expires_at is None else _in_future(expires_at)
    async with writing(state, actor) as connection:
        key, secret = await new_api_key(connection, actor.organisation_id, name, description, Permission.NONE, until)
        await record(connection, actor, "api_key.create", key.hash, f"expires at {until}" if until else "")
    return key, secret


async def list_all(state: ServerState, actor: Actor) -> list[ApiKey]:
    """Returns the API keys that are not revoked, the oldest first."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.list_api_keys(connection, actor.organisation_id)


async def permissions(state: ServerState, actor: Actor, key_hash: str) -> list[tuple[KnowledgeBase, int]]:
    """Returns each knowledge base on which the key has a permission, with it. Raises `KeyNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        key = await organisations.get_api_key(connection, actor.organisation_id, key_hash)
        found = await organisations.permissions(connection, key)
    return [(grant.kb, grant.permission) for grant in found if grant.permission]


@repeatable
async def set_permission(state: ServerState, actor: Actor, key_hash: str, kb_id: str, permission: Permission) -> None:
    """Sets the key's permission on a knowledge base. Raises `KeyNotFound` and `KnowledgeBaseNotFound`."""
    async with writing(state, actor) as connection:
        key = await organisations.get_api_key(connection, actor.organisation_id, key_hash)
        kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
        await organisations.set_permission(connection, key, kb, permission)
        await record(connection, actor, "api_key.permission", key.hash, f"permission {permission} in {kb.id}")


@repeatable
async def revoke(state: ServerState, actor: Actor, key_hash: str) -> None:
    """Revokes a key; one that is revoked already stays so. Raises `KeyNotFound`."""
    async with writing(state, actor) as connection:
        await organisations.revoke_api_key(connection, actor.organisation_id, key_hash)
        await record(connection, actor, "api_key.revoke", key_hash)


def _in_future(expires_at: datetime) -> str:
    """The time as it is stored. Raises `InvalidRequest` if it has passed."""
    try:
        until = format_time(expires_at)
    except OverflowError:  # at the ends of the calendar
        raise InvalidRequest("expiresAt is not a time that UTC has, expected a time in the future") from None
    if expires_at <= datetime.now(UTC):
        raise InvalidRequest(f"expiresAt is {until}, which has passed, expected a time in the future")
    return until
