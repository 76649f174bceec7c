"""The API keys of an organisation, and their permissions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from msgspec import UNSET, UnsetType

from xtrace_core.permissions import Permission
from xtrace_server.auth.guard import Actor
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.errors import InvalidRequest
from xtrace_server.limits.sizes import check_names
from xtrace_server.operations.audit import record
from xtrace_server.operations.paging import Listed, Start, page_of
from xtrace_server.operations.writing import repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import knowledge_bases, organisations
from xtrace_server.storage.database import format_time
from xtrace_server.storage.knowledge_bases import KnowledgeBase
from xtrace_server.storage.organisations import ApiKey as ApiKey
from xtrace_server.storage.organisations import KeySort as KeySort

PAGE_KEYS = 20


@repeatable
async def create(
    state: ServerState,
    actor: Actor,
    name: str,
    description: str,
    expires_at: datetime | None = None,
    default_permission: Permission = Permission.NONE,
) -> tuple[ApiKey, str]:
    """Creates an API key with a default permission; returns the stored record, and the secret, which only the caller
    has.

    It expires at `expires_at`, a time with a time zone, or never. Raises `LimitExceeded` and `InvalidRequest`.
    """
    check_names(state.settings, name, description)
    until = None if expires_at is None else _in_future(expires_at)
    async with writing(state, actor) as connection:
        key, secret = await new_api_key(connection, actor.organisation_id, name, description, default_permission, until)
        said = [f"permission {default_permission} everywhere"] if default_permission else []
        said += [f"expires at {until}"] if until else []
        await record(connection, actor, "api_key.create", key.hash, ", ".join(said))
    return key, secret


async def list_all(state: ServerState, actor: Actor) -> list[ApiKey]:
    """Returns the API keys that are not revoked, oldest first."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.list_api_keys(connection, actor.organisation_id)


async def list_page(
    state: ServerState, actor: Actor, find: str, sort_by: KeySort, *, descending: bool, start: Start | None = None
) -> Listed[ApiKey]:
    """Returns one page of the API keys that are not revoked; without `start` the first one.

    `find` is a part of the name, or the first characters of the key; empty for all.
    """
    listed = organisations.listed_api_keys(actor.organisation_id, find=find, sort_by=sort_by)
    async with state.database.read(actor.organisation_id) as connection:
        return await page_of(connection, listed, start, PAGE_KEYS, descending=descending)


async def count(state: ServerState, actor: Actor) -> tuple[int, int]:
    """Returns how many API keys are not revoked, and how many of these have expired."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.count_api_keys(connection, actor.organisation_id)


async def expiring(state: ServerState, actor: Actor, until: datetime, limit: int) -> list[ApiKey]:
    """Returns the API keys that expire next, at most `limit` of them, and not after `until`."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.expiring_api_keys(connection, actor.organisation_id, format_time(until), limit)


async def permissions(state: ServerState, actor: Actor, key_hash: str) -> list[tuple[KnowledgeBase, int]]:
    """Returns the knowledge bases on which the key has a permission, with the permission. Raises `KeyNotFound`."""
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


@dataclass(frozen=True, slots=True)
class Access:
    """An API key, and the number of knowledge bases in which it has a permission."""

    key: ApiKey
    knowledge_bases: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """The rights of keys in a page of the knowledge bases; `explicit` has those that are set, by hash and `pk`."""

    keys: list[Access]
    knowledge_bases: Listed[KnowledgeBase]
    explicit: dict[tuple[str, int], int]


async def matrix(
    state: ServerState, actor: Actor, keys: Sequence[ApiKey], find: str, start: Start | None, size: int
) -> Matrix:
    """Returns the rights of at most a thousand keys in a page of the knowledge bases, by name.

    `find` is a part of their names, or the beginning of an ID; empty for all.
    """
    hashes = [key.hash for key in keys]
    listed = knowledge_bases.listed(actor.organisation_id, find=find, sort_by="name", deleting=False)
    async with state.database.read(actor.organisation_id) as connection:
        kbs = await page_of(connection, listed, start, size)
        explicit = await organisations.explicit_permissions(connection, hashes, [kb.pk for kb in kbs.rows])
        counted = await organisations.count_explicit(connection, hashes)
        everything = (await organisations.knowledge_base_counts(connection, [actor.organisation_id])).get(
            actor.organisation_id, 0
        )
    accesses = []
    for key in keys:
        given, denied = counted.get(key.hash, (0, 0))
        accesses.append(Access(key, everything - denied if key.default_permission else given))
    return Matrix(accesses, kbs, explicit)


async def get(state: ServerState, actor: Actor, key_hash: str) -> ApiKey:
    """Returns a key that is not revoked. Raises `KeyNotFound`."""
    async with state.database.read(actor.organisation_id) as connection:
        return await organisations.get_api_key(connection, actor.organisation_id, key_hash)


@repeatable
async def set_permissions(
    state: ServerState, actor: Actor, key_hash: str, changes: Mapping[str, Permission | None]
) -> int:
    """Sets the key's permission in knowledge bases by id, None for its default: all or none.

    Returns the number of changes. Raises `KeyNotFound` and `KnowledgeBaseNotFound`.
    """
    changed = 0
    async with writing(state, actor) as connection:
        key = await organisations.get_api_key(connection, actor.organisation_id, key_hash)
        for kb_id, permission in changes.items():
            kb = await knowledge_bases.get(connection, actor.organisation_id, kb_id)
            before = (await organisations.explicit_permissions(connection, [key.hash], [kb.pk])).get((key.hash, kb.pk))
            if before == permission:
                continue
            changed += 1
            if permission is None:
                await organisations.clear_permission(connection, key, kb)
            else:
                await organisations.set_permission(connection, key, kb, permission)
            said = "default" if permission is None else str(int(permission))
            await record(connection, actor, "api_key.permission", key.hash, f"permission {said} in {kb.id}")
    return changed


@repeatable
async def change(
    state: ServerState,
    actor: Actor,
    key_hash: str,
    name: str | UnsetType = UNSET,
    description: str | UnsetType = UNSET,
    expires_at: datetime | UnsetType | None = UNSET,
) -> tuple[ApiKey, bool]:
    """Changes a key's name, description and expiry; None means that it never expires.

    The new time applies from the next request on, and a key that had expired works again. Returns the changed key, and
    whether anything differs from before. Raises `KeyNotFound`, `LimitExceeded`, and `InvalidRequest` for a new time
    that has passed.
    """
    async with writing(state, actor) as connection:
        key = await organisations.get_api_key(connection, actor.organisation_id, key_hash)
        name = key.name if name is UNSET else name
        description = key.description if description is UNSET else description
        check_names(state.settings, name, description)
        until = key.expires_at if expires_at is UNSET else None if expires_at is None else format_time(expires_at)
        if until != key.expires_at and isinstance(expires_at, datetime):
            until = _in_future(expires_at)
        changed = replace(key, name=name, description=description, expires_at=until)
        if changed == key:
            return key, False
        await organisations.change_api_key(connection, key, name, description, until)
        if (name, description) != (key.name, key.description):
            await record(connection, actor, "api_key.rename", key.hash)
        if until != key.expires_at:
            said = "does not expire" if until is None else f"expires at {until}"
            await record(connection, actor, "api_key.expiry", key.hash, said)
    return changed, True


@repeatable
async def revoke(state: ServerState, actor: Actor, key_hash: str) -> None:
    """Revokes a key; a revoked one stays revoked. Raises `KeyNotFound`."""
    async with writing(state, actor) as connection:
        await organisations.revoke_api_key(connection, actor.organisation_id, key_hash)
        await record(connection, actor, "api_key.revoke", key_hash)


def _in_future(expires_at: datetime) -> str:
    """Returns the time as stored. Raises `InvalidRequest` if it has passed."""
    try:
        until = format_time(expires_at)
    except OverflowError:  # at the ends of the calendar
        raise InvalidRequest("expiresAt is not a valid time in UTC, expected a time in the future") from None
    if expires_at <= datetime.now(UTC):
        raise InvalidRequest(f"expiresAt is {until}, which has passed, expected a time in the future")
    return until
