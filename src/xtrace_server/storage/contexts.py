"""Execution contexts, and their bindings to knowledge bases."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from msgspec import structs
from sqlalchemy import and_, bindparam, case, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from xtrace_core.wire import ContextData
from xtrace_server.errors import ContextNotFound, ContextRetired, KnowledgeBaseNotFound
from xtrace_server.storage import shared_indexes, usage
from xtrace_server.storage.database import now
from xtrace_server.storage.deletions import NOT_DELETED
from xtrace_server.storage.keyset import SortedList
from xtrace_server.storage.knowledge_bases import COLUMNS as KB_COLUMNS
from xtrace_server.storage.knowledge_bases import KnowledgeBase, from_row
from xtrace_server.storage.knowledge_bases import lock as lock_knowledge_base
from xtrace_server.storage.schema import binding, chunk, execution_context, knowledge_base, retired_context
from xtrace_server.storage.sizes import byte_length
from xtrace_server.storage.steps import steps


@dataclass(frozen=True, slots=True)
class Context:
    """A stored execution context."""

    pk: int
    id: str
    data: ContextData
    name: str | None
    """The name under which it was saved, if any."""
    saved_by: str | None
    """The hash of the API key that first saved it; None if that is unknown."""
    created_at: str

    @property
    def can_be_restored(self) -> bool:
        """Whether its encrypted secrets are stored too; a client that loads chunks registers only the public part."""
        return None not in (self.data.sk, self.data.key_provider, self.data.wrapped_key)


@dataclass(frozen=True, slots=True)
class Binding:
    """A knowledge base and a context of its chunks: the scope of a search."""

    pk: int
    kb_pk: int
    context_pk: int
    row_bytes: int | None
    """The length of every stored row of ciphertexts; None if none was stored yet."""
    name_salt: bytes | None
    """The salt with which clients compute the names of chunks; None until one stores it."""


_c = execution_context.c
_b = binding.c
BINDING_COLUMNS = (_b.pk, _b.kb_pk, _b.context_pk, _b.row_bytes, _b.name_salt)
_r = retired_context.c
_CONTEXT = (
    _c.pk,
    _c.id,
    _c.type,
    _c.public_key,
    _c.config,
    _c.encrypted_secret,
    _c.key_provider,
    _c.wrapped_key,
    _c.name,
    _c.saved_by,
    _c.created_at,
)


_FIND: Final = select(*_CONTEXT).where(
    _c.organisation_id == bindparam("organisation_id"), _c.id == bindparam("context_id")
)


async def find(connection: AsyncConnection, organisation_id: str, context_id: str) -> Context | None:
    """Returns the organisation's context with this id, if it is stored."""
    values = {"organisation_id": organisation_id, "context_id": context_id}
    row = (await connection.execute(_FIND, values)).one_or_none()
    return None if row is None else _from_row(row)


def _from_row(row: Sequence[Any]) -> Context:
    pk, id_, type_, public_key, config, secret, key_provider, wrapped_key, name, saved_by, created_at = row
    data = ContextData(
        type=type_, pk=public_key, config=config, sk=secret, key_provider=key_provider, wrapped_key=wrapped_key
    )
    return Context(pk, id_, data, name, saved_by, created_at)


async def find_named(connection: AsyncConnection, organisation_id: str, name: str) -> Context | None:
    """Returns the organisation's context that was saved under the name, if any."""
    query = select(*_CONTEXT).where(_c.organisation_id == organisation_id, _c.name == name)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _from_row(row)


async def get(connection: AsyncConnection, organisation_id: str, context_id: str) -> Context:
    """Returns the same. Raises `ContextNotFound` if it is not stored."""
    context = await find(connection, organisation_id, context_id)
    if context is None:
        raise ContextNotFound(context_id)
    return context


async def get_for_writing(connection: AsyncConnection, organisation_id: str, context_id: str) -> Context:
    """Returns the same. Raises `ContextRetired` if it was retired and then deleted, as saving it again would not
    help."""
    context = await find(connection, organisation_id, context_id)
    if context is not None:
        return context
    if await is_retired(connection, organisation_id, context_id):
        raise ContextRetired(context_id)
    raise ContextNotFound(context_id)


async def public_parts(connection: AsyncConnection, context_pks: set[int]) -> dict[int, tuple[str, str]]:
    """Returns the `type` and `pk` of each of the contexts."""
    query = select(_c.pk, _c.type, _c.public_key).where(_c.pk.in_(context_pks))
    return {pk: (type_, public_key) for pk, type_, public_key in await connection.execute(query)}


async def list_all(connection: AsyncConnection, organisation_id: str) -> list[Context]:
    """Returns the organisation's contexts in the order in which they were first saved."""
    query = select(*_CONTEXT).where(_c.organisation_id == organisation_id).order_by(_c.pk)
    return [_from_row(row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class PublicPart:
    """A stored context without its secrets."""

    pk: int
    id: str
    type: str
    public_key: str
    config: str
    key_provider: str | None
    """The kind of provider that protects the secrets; None if they are not stored here."""
    name: str | None
    created_at: str
    is_retired: bool


_IS_RETIRED: Final = exists().where(_r.organisation_id == _c.organisation_id, _r.context_id == _c.id)
_PROVIDER: Final = case((_c.encrypted_secret.is_not(None), func.coalesce(_c.key_provider, "unknown")))
_PUBLIC: Final = (_c.pk, _c.id, _c.type, _c.public_key, _c.config, _PROVIDER, _c.name, _c.created_at, _IS_RETIRED)


def listed(organisation_id: str) -> SortedList[PublicPart]:
    """Returns the list of the organisation's contexts, in the order in which they were first saved."""
    return SortedList(
        columns=_PUBLIC,
        make=lambda row: PublicPart(*row),
        table=execution_context,
        owned=[_c.organisation_id == organisation_id],
        id=_c.id,
        key=_c.pk,
        pk=_c.pk,
    )


async def list_public(connection: AsyncConnection, pks: Collection[int]) -> list[PublicPart]:
    """Returns the public parts of at most a thousand contexts, in the order in which they were first saved."""
    query = select(*_PUBLIC).where(_c.pk.in_(pks)).order_by(_c.pk)
    return [PublicPart(*row) for row in await connection.execute(query)]


async def list_pks(connection: AsyncConnection, organisation_id: str) -> list[int]:
    """Returns the keys of the organisation's contexts, in the order in which they were first saved."""
    query = select(_c.pk).where(_c.organisation_id == organisation_id)
    return sorted((await connection.execute(query)).scalars())


class PublicText(NamedTuple):
    """What clients stored as a context's public part."""

    pk: int
    type: str
    public_key: str
    config: str


async def public_texts(connection: AsyncConnection, pks: Collection[int]) -> AsyncIterator[list[PublicText]]:
    """Yields the public parts of contexts, as they are stored, in steps."""
    for step in steps(pks):
        query = select(_c.pk, _c.type, _c.public_key, _c.config).where(_c.pk.in_(step))
        yield [PublicText(*row) for row in await connection.execute(query)]


async def count_saved(connection: AsyncConnection, organisation_id: str) -> tuple[int, int, int]:
    """Returns how many contexts there are, how many with encrypted secrets, and how many with a passphrase."""
    is_saved = _c.encrypted_secret.is_not(None)
    counted = [
        func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
        for condition in (is_saved, is_saved & (_c.key_provider == "passphrase"))
    ]
    row = (await connection.execute(select(func.count(), *counted).where(_c.organisation_id == organisation_id))).one()
    return row[0], int(row[1]), int(row[2])


@dataclass(frozen=True, slots=True)
class Use:
    """A knowledge base in which chunks may be stored under a context."""

    context_pk: int
    binding_pk: int
    kb_id: str
    kb_name: str
    chunks: int
    """The number in the knowledge base, under any context."""


async def uses(connection: AsyncConnection, organisation_id: str, limit: int) -> list[Use]:
    """Returns the bindings of the organisation's contexts, those of the largest knowledge bases first."""
    kb = knowledge_base.c
    query = (
        select(_b.context_pk, _b.pk, kb.id, kb.name, kb.number_of_vectors)
        .join_from(binding, knowledge_base, _b.kb_pk == kb.pk)
        .where(kb.organisation_id == organisation_id, kb.deleted_at.is_(None), _b.context_pk.is_not(None))
        .order_by(kb.number_of_vectors.desc(), _b.pk)
        .limit(limit)
    )
    return [Use(*row) for row in await connection.execute(query)]


async def largest_uses(connection: AsyncConnection, context_pks: Collection[int], most: int) -> dict[int, list[Use]]:
    """Returns the bindings of at most a thousand contexts, of each its `most` largest knowledge bases."""
    kb = knowledge_base.c
    largest = (kb.number_of_vectors.desc(), _b.pk)
    place = func.row_number().over(partition_by=_b.context_pk, order_by=largest).label("place")
    ranked = (
        select(_b.context_pk, _b.pk, kb.id, kb.name, kb.number_of_vectors, place)
        .join_from(binding, knowledge_base, _b.kb_pk == kb.pk)
        .where(kb.deleted_at.is_(None), _b.context_pk.in_(context_pks))
        .subquery()
    )
    query = select(ranked).where(ranked.c.place <= most).order_by(ranked.c.context_pk, ranked.c.place)
    found: dict[int, list[Use]] = {}
    for row in await connection.execute(query):
        found.setdefault(row[0], []).append(Use(*row[:-1]))
    return found


async def count_uses(connection: AsyncConnection, context_pks: Collection[int]) -> dict[int, int]:
    """Returns how many knowledge bases each of at most a thousand contexts is bound to, if any."""
    query = (
        select(_b.context_pk, func.count())
        .join_from(binding, knowledge_base, _b.kb_pk == knowledge_base.c.pk)
        .where(knowledge_base.c.deleted_at.is_(None), _b.context_pk.in_(context_pks))
        .group_by(_b.context_pk)
    )
    return {row[0]: row[1] for row in await connection.execute(query)}


async def count_bindings(connection: AsyncConnection, organisation_id: str) -> int:
    """Returns how many pairs of a knowledge base and a context the organisation has."""
    kb = knowledge_base.c
    query = (
        select(func.count())
        .select_from(binding.join(knowledge_base, _b.kb_pk == kb.pk))
        .where(kb.organisation_id == organisation_id, kb.deleted_at.is_(None), _b.context_pk.is_not(None))
    )
    return int((await connection.execute(query)).scalar_one())


async def create(
    connection: AsyncConnection,
    organisation_id: str,
    context_id: str,
    data: ContextData,
    saved_by: str,
    name: str | None = None,
) -> None:
    """Stores a new context; `saved_by` is the hash of the API key that saves it. Raises `QuotaExceeded`."""
    moment = now()
    await connection.execute(
        insert(execution_context).values(
            organisation_id=organisation_id,
            id=context_id,
            type=data.type,
            public_key=data.pk,
            config=data.config,
            encrypted_secret=data.sk,
            key_provider=data.key_provider,
            wrapped_key=data.wrapped_key,
            name=name,
            saved_by=saved_by,
            created_at=moment,
            updated_at=moment,
        )
    )
    await usage.add(connection, organisation_id, contexts=1, stored_bytes=stored_bytes(context_id, name, data))


def stored_bytes(context_id: str, name: str | None, data: ContextData) -> int:
    """Returns the size of a context in bytes, as usage counts it."""
    texts = [context_id, name, *[getattr(data, field) for field in data.__struct_fields__]]
    return sum([byte_length(text) for text in texts if text is not None])


async def replace_secret(
    connection: AsyncConnection, organisation_id: str, context: Context, data: ContextData
) -> None:
    """Stores the fields of the secret part that `data` contains; others stay. Raises `QuotaExceeded`."""
    fields = {
        "encrypted_secret": data.sk,
        "key_provider": data.key_provider,
        "wrapped_key": data.wrapped_key,
    }
    values = {name: value for name, value in fields.items() if value is not None}
    secrets = {name: getattr(data, name) for name in ("sk", "key_provider", "wrapped_key")}
    kept = structs.replace(context.data, **{name: text for name, text in secrets.items() if text is not None})
    before, after = (stored_bytes(context.id, context.name, one) for one in (context.data, kept))
    statement = update(execution_context).where(_c.pk == context.pk)
    await connection.execute(statement.values(**values, updated_at=now()))
    await usage.add(connection, organisation_id, stored_bytes=after - before)


async def remove(connection: AsyncConnection, organisation_id: str, context: Context) -> None:
    """Deletes the context, under which no chunk may be stored, and its shared indexes.

    Its knowledge bases must be locked. `deletions.carry_out` deletes its bindings.
    """
    bound = (await connection.execute(select(_b.pk).where(_b.context_pk == context.pk))).scalars().all()
    await shared_indexes.remove(connection, organisation_id, bound)
    result = await connection.execute(delete(execution_context).where(_c.pk == context.pk))
    if result.rowcount:
        freed = stored_bytes(context.id, context.name, context.data)
        await usage.add(connection, organisation_id, contexts=-1, stored_bytes=-freed)


async def retire(connection: AsyncConnection, organisation_id: str, context_id: str) -> bool:
    """Marks a context as permanently retired; returns False if it already was."""
    if await is_retired(connection, organisation_id, context_id):
        return False
    values = {"organisation_id": organisation_id, "context_id": context_id, "retired_at": now()}
    await connection.execute(insert(retired_context).values(values))
    return True


async def is_retired(connection: AsyncConnection, organisation_id: str, context_id: str) -> bool:
    """Whether the context was retired, even if it was deleted since."""
    query = select(exists().where(_r.organisation_id == organisation_id, _r.context_id == context_id))
    return bool((await connection.execute(query)).scalar())


async def check_not_retired(connection: AsyncConnection, context_pks: Collection[int]) -> None:
    """Raises `ContextRetired` if one of the contexts is retired."""
    query = (
        select(_c.id)
        .join(retired_context, and_(_r.organisation_id == _c.organisation_id, _r.context_id == _c.id))
        .where(_c.pk.in_(context_pks))
    )
    retired = (await connection.execute(query.limit(1))).scalar_one_or_none()
    if retired is not None:
        raise ContextRetired(retired)


async def find_successor(connection: AsyncConnection, context: Context) -> str | None:
    """Returns the id of the context to which a rotation moves this one's chunks; None if no rotation has begun."""
    query = select(_c.successor).where(_c.pk == context.pk)
    found: str | None = (await connection.execute(query)).scalar_one()
    return found


async def exchange_successor(
    connection: AsyncConnection, context: Context, expected: str | None, successor: str
) -> str | None:
    """Stores the successor if the current one is the expected one, and returns the one that is then stored."""
    stored = _c.successor.is_(None) if expected is None else _c.successor == expected
    statement = update(execution_context).where(_c.pk == context.pk, stored)
    await connection.execute(statement.values(successor=successor))
    return await find_successor(connection, context)


async def is_in_use(connection: AsyncConnection, context: Context) -> bool:
    """Whether any chunk is stored under the context."""
    query = select(exists().where(chunk.c.binding_pk == _b.pk, _b.context_pk == context.pk, NOT_DELETED))
    return bool((await connection.execute(query)).scalar())


async def bound_knowledge_bases(connection: AsyncConnection, context: Context) -> list[KnowledgeBase]:
    """Returns the knowledge bases to which the context is bound, in order of creation."""
    query = (
        select(*KB_COLUMNS)
        .join_from(knowledge_base, binding, _b.kb_pk == knowledge_base.c.pk)
        .where(_b.context_pk == context.pk)
        .order_by(knowledge_base.c.pk)
    )
    return [from_row(row) for row in await connection.execute(query)]


async def bound_ids(connection: AsyncConnection, organisation_id: str) -> dict[int, set[str]]:
    """Returns the ids of the knowledge bases of the organisation's contexts, by the contexts' keys."""
    query = (
        select(_b.context_pk, knowledge_base.c.id)
        .join_from(binding, knowledge_base, _b.kb_pk == knowledge_base.c.pk)
        .where(knowledge_base.c.organisation_id == organisation_id, _b.context_pk.is_not(None))
    )
    found: dict[int, set[str]] = {}
    for context_pk, kb_id in await connection.execute(query):
        found.setdefault(context_pk, set()).add(kb_id)
    return found


async def bound_to(connection: AsyncConnection, kb_pks: Collection[int]) -> dict[int, list[str]]:
    """Returns the ids of the contexts of at most a thousand knowledge bases, by the knowledge bases' keys."""
    query = (
        select(_b.kb_pk, _c.id)
        .join_from(execution_context, binding, _b.context_pk == _c.pk)
        .where(_b.kb_pk.in_(kb_pks))
        .order_by(_b.pk)
    )
    found: dict[int, list[str]] = {}
    for kb_pk, context_id in await connection.execute(query):
        found.setdefault(kb_pk, []).append(context_id)
    return found


async def bound_context_ids(connection: AsyncConnection, kb: KnowledgeBase) -> list[str]:
    """Returns the ids of the contexts bound to the knowledge base, in the order in which they were bound."""
    query = (
        select(_c.id)
        .join_from(execution_context, binding, _b.context_pk == _c.pk)
        .where(_b.kb_pk == kb.pk)
        .order_by(_b.pk)
    )
    return list((await connection.execute(query)).scalars())


_FIND_BINDING: Final = select(*BINDING_COLUMNS).where(
    _b.kb_pk == bindparam("this_kb_pk"), _b.context_pk == bindparam("this_context_pk")
)


async def find_binding(connection: AsyncConnection, kb: KnowledgeBase, context: Context) -> Binding | None:
    """Returns the binding of the two, if it exists."""
    values = {"this_kb_pk": kb.pk, "this_context_pk": context.pk}
    row = (await connection.execute(_FIND_BINDING, values)).one_or_none()
    return None if row is None else Binding(*row)


async def binding_of(
    connection: AsyncConnection, organisation_id: str, kb: KnowledgeBase, context_id: str
) -> Binding | None:
    """The binding of the knowledge base and the context with this id; None where nothing can be stored under it."""
    context = await find(connection, organisation_id, context_id)
    return None if context is None else await find_binding(connection, kb, context)


async def is_only_binding(connection: AsyncConnection, kb: KnowledgeBase) -> bool:
    """Whether all chunks of the knowledge base are stored under one context."""
    query = select(func.count()).where(_b.kb_pk == kb.pk, _b.context_pk.is_not(None))
    return (await connection.execute(query)).scalar_one() == 1


async def bindings(connection: AsyncConnection, binding_pks: set[int]) -> dict[int, Binding]:
    """Returns the bindings by their keys."""
    found = await connection.execute(select(*BINDING_COLUMNS).where(_b.pk.in_(binding_pks)))
    return {row[0]: Binding(*row) for row in found}


async def lock(connection: AsyncConnection, context: Context) -> None:
    """Locks the context against binding and deletion until the transaction ends. Raises `ContextNotFound`."""
    query = select(_c.pk).where(_c.pk == context.pk).with_for_update()
    if (await connection.execute(query)).one_or_none() is None:
        raise ContextNotFound(context.id)


async def lock_with_bound(connection: AsyncConnection, context: Context) -> list[KnowledgeBase]:
    """Locks the context and all its knowledge bases, and returns these as `bound_knowledge_bases` does.

    So it cannot be bound to another one meanwhile, and running writes under it finish first. Raises `ContextNotFound`.
    """
    await lock(connection, context)
    bound = await bound_knowledge_bases(connection, context)
    for kb in bound:
        with suppress(KnowledgeBaseNotFound):  # it was deleted in this moment
            await lock_knowledge_base(connection, kb)
    return bound


async def bind(connection: AsyncConnection, kb: KnowledgeBase, context: Context) -> Binding:
    """Returns the binding of a locked knowledge base and a context for a write, and creates it if it is missing.

    Raises `ContextRetired`, and `ContextNotFound` if the context was deleted meanwhile.
    """
    bound = await find_binding(connection, kb, context)
    if bound is None:
        await lock(connection, context)
        await connection.execute(insert(binding).values(kb_pk=kb.pk, context_pk=context.pk))
        bound = await find_binding(connection, kb, context)
    if bound is None:
        raise RuntimeError("a binding that was just made is missing")
    await check_not_retired(connection, [context.pk])
    return bound


async def fix_row_bytes(connection: AsyncConnection, bound: Binding, row_bytes: int) -> Binding:
    """Returns the binding, with this row length if it has no rows; otherwise unchanged.

    The first index decides; once every chunk is gone, the next one is the first again.
    """
    if bound.row_bytes == row_bytes:
        return bound
    if bound.row_bytes is not None:
        occupied = select(exists().where(chunk.c.binding_pk == bound.pk, NOT_DELETED))
        if (await connection.execute(occupied)).scalar():
            return bound
    await connection.execute(update(binding).where(_b.pk == bound.pk).values(row_bytes=row_bytes))
    return replace(bound, row_bytes=row_bytes)


async def exchange_name_salt(
    connection: AsyncConnection, bound: Binding, expected: bytes | None, salt: bytes
) -> Binding:
    """Returns the binding of a locked knowledge base, with this salt if it has the expected one; otherwise
    unchanged."""
    if bound.name_salt != expected:
        return bound
    await connection.execute(update(binding).where(_b.pk == bound.pk).values(name_salt=salt))
    return replace(bound, name_salt=salt)
