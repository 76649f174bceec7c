"""Organisations, their admin keys, their API keys and the keys' permissions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import uuid4

from sqlalchemy import ColumnElement, bindparam, case, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.permissions import Permission
from xtrace_server.errors import KeyNotFound, OrganisationNotFound
from xtrace_server.storage import usage
from xtrace_server.storage.database import now
from xtrace_server.storage.dialects import statements
from xtrace_server.storage.keyset import SortedList, named
from xtrace_server.storage.knowledge_bases import COLUMNS as KB_COLUMNS
from xtrace_server.storage.knowledge_bases import NOT_DELETED, KnowledgeBase, from_row
from xtrace_server.storage.schema import admin_key, api_key, knowledge_base, organisation, permission, request_count
from xtrace_server.storage.usage import Quotas, Requests, Stored

STAGING_PREFIX: Final = "importing-"
"""The prefix of staging organisations' ids: incomplete imports belong to these, and they do not have keys."""


@dataclass(frozen=True, slots=True)
class Organisation:
    id: str
    name: str
    created_at: str
    suspended_at: str | None = None
    """When its keys stopped working; None if they work."""
    deleted_at: str | None = None
    """When it was deleted, if its data is not yet deleted."""
    stored: Stored = field(default_factory=Stored)
    quotas: Quotas = field(default_factory=Quotas)
    requests: Requests = field(default_factory=Requests)


@dataclass(frozen=True, slots=True)
class AdminKey:
    """An admin key as stored: never the key itself."""

    hash: str
    created_at: str


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as stored: never the key itself."""

    hash: str
    organisation_id: str
    first_n: str
    name: str
    description: str
    default_permission: int
    created_at: str
    last_used_at: str | None = None
    expires_at: str | None = None
    """When it stops working; None if it does not expire."""


_o = organisation.c
_ORGANISATION = (_o.id, _o.name, _o.created_at, _o.suspended_at, _o.deleted_at, *usage.COLUMNS)
_IS_THERE: Final[ColumnElement[bool]] = _o.deleted_at.is_(None) & _o.id.not_like(f"{STAGING_PREFIX}%")
"""The condition for organisations that can have keys."""
_IS_LISTED: Final = _o.erased_at.is_(None)
_JOINED = organisation.outerjoin(request_count)
_a = admin_key.c
_k = api_key.c
_KEY = (
    _k.hash,
    _k.organisation_id,
    _k.first_n,
    _k.name,
    _k.description,
    _k.default_permission,
    _k.created_at,
    _k.last_used_at,
    _k.expires_at,
)
# Created once, because every request uses them: creating a statement takes longer than executing it.
_FIND_ADMIN_KEY: Final = (
    select(_a.hash, *_ORGANISATION)
    .select_from(_JOINED.join(admin_key))
    .where(_a.hash == bindparam("key_hash"), _IS_THERE)
)
_FIND_API_KEY: Final = (
    select(*_KEY, *_ORGANISATION)
    .select_from(_JOINED.join(api_key))
    .where(_k.hash == bindparam("key_hash"), _k.revoked_at.is_(None), _IS_THERE)
)


async def hold(connection: AsyncConnection, organisation_id: str, key_hash: str) -> None:
    """Makes suspensions of the organisation, and revocations and grants of the key, wait for this transaction."""
    await statements(connection).hold(connection, _name(organisation_id), _key_name(key_hash))


async def claim(connection: AsyncConnection, organisation_id: str) -> None:
    """Waits for all running writes of the organisation; later ones wait for this transaction."""
    await statements(connection).claim(connection, _name(organisation_id))


def _name(organisation_id: str) -> str:
    return f"organisation {organisation_id}"


def _key_name(key_hash: str) -> str:
    return f"key {key_hash}"


async def create(connection: AsyncConnection, name: str, admin_key_hash: str) -> Organisation:
    """Creates an organisation with its admin key."""
    created = Organisation(str(uuid4()), name, now())
    await connection.execute(insert(organisation).values(id=created.id, name=name, created_at=created.created_at))
    await usage.begin_requests(connection, created.id)
    await connection.execute(
        insert(admin_key).values(hash=admin_key_hash, organisation_id=created.id, created_at=created.created_at)
    )
    return created


async def list_all(connection: AsyncConnection) -> list[Organisation]:
    """Returns every organisation, oldest first, including those being deleted and those of incomplete imports."""
    query = select(*_ORGANISATION).select_from(_JOINED).where(_IS_LISTED).order_by(_o.created_at, _o.id)
    return [_from_row(row) for row in await connection.execute(query)]


OrganisationSort: TypeAlias = Literal["chunks", "bytes", "requests", "name", "created"]
"""What organisations can be listed by; `requests` are those of today."""


def listed(*, find: str = "", sort_by: OrganisationSort = "created") -> SortedList[Organisation]:
    """The list of every organisation; also those being deleted, and those of imports that are not complete.

    `find` is a part of the name, or the beginning of the ID; empty for all.
    """
    keys: dict[OrganisationSort, ColumnElement[Any]] = {
        "chunks": _o.chunks,
        "bytes": _o.stored_bytes,
        "requests": usage.requests_today(),
        "name": func.lower(_o.name),
        "created": _o.created_at,
    }
    return SortedList(
        columns=_ORGANISATION,
        make=_from_row,
        table=_JOINED,
        owned=[_IS_LISTED],
        wanted=named(_o.name, _o.id, find),
        id=_o.id,
        key=keys[sort_by],
        pk=_o.id,
    )


class Totals(NamedTuple):
    """What all organisations have together."""

    organisations: int
    suspended: int
    chunks: int
    bytes: int
    requests_today: int
    knowledge_bases: int


async def totals(connection: AsyncConnection) -> Totals:
    """What all organisations that are listed have together."""
    is_suspended = _o.suspended_at.is_not(None) & _o.deleted_at.is_(None)
    sums = [
        func.coalesce(func.sum(column), 0)
        for column in (case((is_suspended, 1), else_=0), _o.chunks, _o.stored_bytes, usage.requests_today())
    ]
    row = (await connection.execute(select(func.count(), *sums).select_from(_JOINED).where(_IS_LISTED))).one()
    kbs = await connection.execute(select(func.count()).select_from(knowledge_base).where(NOT_DELETED))
    return Totals(*[int(value) for value in (*row, kbs.scalar_one())])


def _from_row(row: Sequence[Any]) -> Organisation:
    stored, quotas, requests = usage.from_row(row[5:])
    return Organisation(row[0], row[1], row[2], row[3], row[4], stored, quotas, requests)


async def there_was_any(connection: AsyncConnection) -> bool:
    """Whether an organisation was ever created, even if it was deleted."""
    return bool((await connection.execute(select(exists().select_from(organisation)))).scalar())


async def knowledge_base_counts(
    connection: AsyncConnection, organisation_ids: Collection[str] | None = None
) -> dict[str, int]:
    """How many knowledge bases each organisation has, or each of at most a thousand, by their ids; those with any."""
    of = knowledge_base.c.organisation_id
    query = select(of, func.count()).where(NOT_DELETED).group_by(of)
    if organisation_ids is not None:
        query = query.where(of.in_(organisation_ids))
    return {row[0]: row[1] for row in await connection.execute(query)}


async def get(connection: AsyncConnection, organisation_id: str) -> Organisation:
    """Returns the organisation. Raises `OrganisationNotFound`."""
    query = select(*_ORGANISATION).select_from(_JOINED).where(_o.id == organisation_id, _IS_THERE)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise OrganisationNotFound(organisation_id)
    return _from_row(row)


async def set_suspended(connection: AsyncConnection, organisation_id: str, since: str | None) -> None:
    """Suspends the organisation, or resumes it with None, after its running writes have ended."""
    await claim(connection, organisation_id)
    await connection.execute(update(organisation).where(_o.id == organisation_id).values(suspended_at=since))


async def rename(connection: AsyncConnection, organisation_id: str, name: str) -> None:
    """Renames the organisation; its id stays."""
    await connection.execute(update(organisation).where(_o.id == organisation_id).values(name=name))


async def is_there(connection: AsyncConnection, organisation_id: str) -> bool:
    """Whether an organisation with this id exists."""
    query = select(_o.id).where(_o.id == organisation_id, _IS_THERE)
    return (await connection.execute(query)).one_or_none() is not None


async def add_admin_key(connection: AsyncConnection, organisation_id: str, key_hash: str) -> AdminKey:
    """Stores another admin key of an organisation; the others stay."""
    added = AdminKey(key_hash, now())
    row = {"hash": added.hash, "organisation_id": organisation_id, "created_at": added.created_at}
    await connection.execute(insert(admin_key).values(row))
    return added


async def list_admin_keys(connection: AsyncConnection, organisation_id: str) -> list[AdminKey]:
    """Returns the organisation's admin keys, oldest first."""
    query = select(_a.hash, _a.created_at).where(_a.organisation_id == organisation_id)
    return [AdminKey(*row) for row in await connection.execute(query.order_by(_a.created_at, _a.hash))]


async def remove_admin_key(connection: AsyncConnection, organisation_id: str, key_hash: str) -> None:
    """Revokes an admin key after running writes with it have ended. Raises `KeyNotFound`."""
    await statements(connection).claim(connection, _key_name(key_hash))
    owned = (_a.hash == key_hash, _a.organisation_id == organisation_id)
    result = await connection.execute(delete(admin_key).where(*owned))
    if result.rowcount == 0:
        raise KeyNotFound("admin key")


async def find_admin_key(connection: AsyncConnection, key_hash: str) -> tuple[str, Organisation] | None:
    """Returns the stored hash and the organisation if this admin key exists, else None."""
    row = (await connection.execute(_FIND_ADMIN_KEY, {"key_hash": key_hash})).one_or_none()
    return None if row is None else (row[0], _from_row(row[1:]))


async def find_api_key(connection: AsyncConnection, key_hash: str) -> tuple[ApiKey, Organisation] | None:
    """Returns the API key and its organisation if the key exists and is not revoked; it may have expired."""
    row = (await connection.execute(_FIND_API_KEY, {"key_hash": key_hash})).one_or_none()
    return None if row is None else (ApiKey(*row[: len(_KEY)]), _from_row(row[len(_KEY) :]))


async def get_api_key(connection: AsyncConnection, organisation_id: str, key_hash: str) -> ApiKey:
    """Returns the organisation's API key unless it is revoked; it may have expired. Raises `KeyNotFound`."""
    owned = (_k.hash == key_hash, _k.organisation_id == organisation_id)
    row = (await connection.execute(select(*_KEY).where(*owned, _k.revoked_at.is_(None)))).one_or_none()
    if row is None:
        raise KeyNotFound("API key")
    return ApiKey(*row)


async def list_api_keys(connection: AsyncConnection, organisation_id: str) -> list[ApiKey]:
    """Returns the organisation's API keys that are not revoked, oldest first."""
    query = select(*_KEY).where(_k.organisation_id == organisation_id, _k.revoked_at.is_(None))
    return [ApiKey(*row) for row in await connection.execute(query.order_by(_k.created_at, _k.hash))]


KeySort: TypeAlias = Literal["used", "name", "expires"]
"""What API keys can be listed by: their last use, or creation before it; their name; their expiry."""
_KEY_SORTS: Final[dict[KeySort, ColumnElement[str]]] = {
    "used": func.coalesce(_k.last_used_at, _k.created_at),
    "name": func.lower(_k.name),
    "expires": func.coalesce(_k.expires_at, "never"),  # after every time
}


def listed_api_keys(organisation_id: str, *, find: str = "", sort_by: KeySort = "used") -> SortedList[ApiKey]:
    """The list of the organisation's API keys that are not revoked.

    `find` is a part of the name, or the first characters of the key; empty for all.
    """
    return SortedList(
        columns=_KEY,
        make=lambda row: ApiKey(*row),
        table=api_key,
        owned=[_k.organisation_id == organisation_id],
        wanted=[_k.revoked_at.is_(None), *named(_k.name, _k.first_n, find)],
        id=_k.hash,
        key=_KEY_SORTS[sort_by],
        pk=_k.hash,
    )


async def count_api_keys(connection: AsyncConnection, organisation_id: str) -> tuple[int, int]:
    """How many API keys of the organisation are not revoked, and how many of these have expired."""
    expired = func.coalesce(func.sum(case((_k.expires_at <= now(), 1), else_=0)), 0)
    query = select(func.count(), expired).where(_k.organisation_id == organisation_id, _k.revoked_at.is_(None))
    everything, gone = (await connection.execute(query)).one()
    return everything, int(gone)


async def expiring_api_keys(connection: AsyncConnection, organisation_id: str, until: str, limit: int) -> list[ApiKey]:
    """The API keys that expire next, at most `limit`, and not after `until`; those that have expired are left out."""
    query = select(*_KEY).where(
        _k.organisation_id == organisation_id, _k.revoked_at.is_(None), _k.expires_at > now(), _k.expires_at <= until
    )
    return [ApiKey(*row) for row in await connection.execute(query.order_by(_k.expires_at, _k.hash).limit(limit))]


async def first_n_is_taken(connection: AsyncConnection, organisation_id: str, first_n: str) -> bool:
    """Whether an API key of the organisation, even a revoked one, has the same beginning, ignoring case."""
    query = select(func.count()).where(_k.organisation_id == organisation_id, _k.first_n_folded == first_n.lower())
    return bool((await connection.execute(query)).scalar())


async def add_api_key(connection: AsyncConnection, key: ApiKey) -> None:
    await connection.execute(
        insert(api_key).values(
            hash=key.hash,
            organisation_id=key.organisation_id,
            first_n=key.first_n,
            first_n_folded=key.first_n.lower(),
            name=key.name,
            description=key.description,
            default_permission=key.default_permission,
            created_at=key.created_at,
            expires_at=key.expires_at,
        )
    )


async def revoke_api_key(connection: AsyncConnection, organisation_id: str, key_hash: str) -> None:
    """Revokes the key after running writes with it have ended; a revoked one stays revoked.

    Raises `KeyNotFound`.
    """
    await statements(connection).claim(connection, _key_name(key_hash))
    owned = (_k.hash == key_hash, _k.organisation_id == organisation_id)
    revoked_at = func.coalesce(_k.revoked_at, now())
    result = await connection.execute(update(api_key).where(*owned).values(revoked_at=revoked_at))
    if result.rowcount == 0:
        raise KeyNotFound("API key")


async def change_api_key(
    connection: AsyncConnection, key: ApiKey, name: str, description: str, expires_at: str | None
) -> None:
    """Changes the key's name, description and expiry, after running writes with it have ended."""
    await statements(connection).claim(connection, _key_name(key.hash))
    values = {"name": name, "description": description, "expires_at": expires_at}
    await connection.execute(update(api_key).where(_k.hash == key.hash).values(values))


async def record_use(connection: AsyncConnection, key_hash: str) -> None:
    await connection.execute(update(api_key).where(_k.hash == key_hash).values(last_used_at=now()))


class Grant(NamedTuple):
    """A key's permission in one knowledge base."""

    kb: KnowledgeBase
    permission: int
    """The effective permission."""
    is_default: bool
    """Whether it is the key's default, because nothing is set for this knowledge base."""


_PERMISSIONS: Final = (
    select(*KB_COLUMNS, permission.c.permission)
    .join_from(
        knowledge_base,
        permission,
        (permission.c.kb_pk == knowledge_base.c.pk) & (permission.c.api_key_hash == bindparam("key_hash")),
        isouter=True,
    )
    .where(knowledge_base.c.organisation_id == bindparam("organisation_id"), NOT_DELETED)
    .order_by(knowledge_base.c.pk)
)
PERMISSION: Final = _PERMISSIONS.where(knowledge_base.c.id == bindparam("kb_id"))
"""Selects what `grant_from_row` takes, for one knowledge base."""


def grant_from_row(key: ApiKey, row: Sequence[Any]) -> Grant:
    """Returns the key's grant: the columns of a knowledge base, then the permission that is set for it, if any."""
    is_default = row[-1] is None
    return Grant(from_row(row[:-1]), key.default_permission if is_default else row[-1], is_default)


async def permissions(connection: AsyncConnection, key: ApiKey, kb_id: str | None = None) -> list[Grant]:
    """Returns the key's effective permission on each knowledge base of its organisation, or on the one with this id."""
    values = {"key_hash": key.hash, "organisation_id": key.organisation_id}
    if kb_id is None:
        rows = await connection.execute(_PERMISSIONS, values)
    else:
        rows = await connection.execute(PERMISSION, values | {"kb_id": kb_id})
    return [grant_from_row(key, row) for row in rows]


async def count_access(connection: AsyncConnection, kb: KnowledgeBase) -> tuple[int, int]:
    """Returns the numbers of unexpired API keys that may read and write in the knowledge base."""
    granted = (permission.c.api_key_hash == _k.hash) & (permission.c.kb_pk == kb.pk)
    level = func.coalesce(permission.c.permission, _k.default_permission)
    usable = (
        _k.organisation_id == kb.organisation_id,
        _k.revoked_at.is_(None),
        _k.expires_at.is_(None) | (_k.expires_at > now()),
    )
    query = (
        select(func.count(), func.coalesce(func.sum(case((level >= Permission.WRITE, 1), else_=0)), 0))
        .select_from(api_key.outerjoin(permission, granted))
        .where(*usable, level > Permission.NONE)
    )
    readers, writers = (await connection.execute(query)).one()
    return readers, writers


async def explicit_permissions(
    connection: AsyncConnection, key_hashes: Collection[str], kb_pks: Collection[int]
) -> dict[tuple[str, int], int]:
    """Returns the set permissions of at most a thousand keys in as many knowledge bases, by hash and key."""
    column = permission.c
    query = select(column.api_key_hash, column.kb_pk, column.permission).where(
        column.api_key_hash.in_(key_hashes), column.kb_pk.in_(kb_pks)
    )
    return {(key_hash, kb_pk): level for key_hash, kb_pk, level in await connection.execute(query)}


async def count_explicit(connection: AsyncConnection, key_hashes: Collection[str]) -> dict[str, tuple[int, int]]:
    """Returns, for at most a thousand keys, in how many knowledge bases access is set, and in how many none is."""
    column = permission.c
    opened = func.coalesce(func.sum(case((column.permission > 0, 1), else_=0)), 0)
    query = (
        select(column.api_key_hash, opened, func.count() - opened)
        .join_from(permission, knowledge_base, column.kb_pk == knowledge_base.c.pk)
        .where(column.api_key_hash.in_(key_hashes), NOT_DELETED)
        .group_by(column.api_key_hash)
    )
    return {key_hash: (given, denied) for key_hash, given, denied in await connection.execute(query)}


async def clear_permission(connection: AsyncConnection, key: ApiKey, kb: KnowledgeBase) -> None:
    """Resets the key to its default permission in the knowledge base. Waits for running writes with the key."""
    await statements(connection).claim(connection, _key_name(key.hash))
    same = (permission.c.api_key_hash == key.hash, permission.c.kb_pk == kb.pk)
    await connection.execute(delete(permission).where(*same))


async def set_permission(connection: AsyncConnection, key: ApiKey, kb: KnowledgeBase, level: int) -> None:
    """Sets the key's permission in the knowledge base, which overrides the key's default.

    Waits for running writes with the key.
    """
    await statements(connection).claim(connection, _key_name(key.hash))
    same = (permission.c.api_key_hash == key.hash, permission.c.kb_pk == kb.pk)
    result = await connection.execute(update(permission).where(*same).values(permission=level))
    if result.rowcount == 0:
        row = {"api_key_hash": key.hash, "kb_pk": kb.pk, "permission": level}
        await connection.execute(insert(permission).values(row))
