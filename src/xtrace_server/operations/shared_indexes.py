"""Shared indexes: sealed copies of local indexes, which clients leave for each other."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xtrace_core import wire
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import ContextNotFound, InvalidRequest, SegmentNotFound
from xtrace_server.operations.writing import frees_space, repeatable, writing
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts, shared_indexes
from xtrace_server.storage.contexts import Context
from xtrace_server.storage.database import Connection
from xtrace_server.storage.shared_indexes import IndexWrite, Segment, SharedIndex


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shared index belongs: it is the only one of its kind."""

    kb_id: str
    context_id: str
    kind: str


async def find(state: ServerState, caller: ApiCaller, place: Place) -> SharedIndex | None:
    """Returns the shared index, if any. Raises `KnowledgeBaseNotFound` and `ContextNotFound`."""
    async with state.database.read(caller.organisation_id) as connection:
        binding_pk = await _binding_pk(connection, caller, place)
        return None if binding_pk is None else await shared_indexes.find(connection, binding_pk, place.kind)


async def read_segment(
    state: ServerState, caller: ApiCaller, place: Place, sha256: bytes, reserve: Callable[[int], Awaitable[None]]
) -> bytes:
    """Returns the bytes of a segment; `reserve` gets their number before they are read.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `SegmentNotFound`, and what `reserve` raises.
    """
    async with state.database.read(caller.organisation_id) as connection:
        binding_pk = await _binding_pk(connection, caller, place)
        if binding_pk is None:
            raise SegmentNotFound(sha256.hex())
        size = await shared_indexes.segment_size(connection, binding_pk, place.kind, sha256)
    if size is None:
        raise SegmentNotFound(sha256.hex())
    await reserve(size)
    async with state.database.read(caller.organisation_id, single=True) as connection:
        body = await shared_indexes.read_segment(connection, binding_pk, place.kind, sha256)
    if body is None:
        raise SegmentNotFound(sha256.hex())
    return body


@repeatable
async def add_segment(state: ServerState, caller: ApiCaller, place: Place, body: bytes) -> Segment:
    """Stores a segment, which a shared index can then list; the same one again is not stored twice.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `ContextRetired`, `InvalidRequest` and `QuotaExceeded`.
    """
    if not body:
        raise InvalidRequest("the body is empty, expected the bytes of a segment")
    context = await _for_writing(state, caller, place)
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(body).digest())
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, place.kb_id)
        bound = await contexts.bind(connection, kb, context)
        await shared_indexes.add_segment(connection, kb, bound.pk, place.kind, sha256, body)
    return Segment(sha256, len(body))


@repeatable
async def put(state: ServerState, caller: ApiCaller, body: wire.PutSharedIndex) -> int:
    """Stores a shared index if the stored one still has the version that it replaces; returns the new version.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `ContextRetired`, `InvalidRequest`, `SharedIndexOutdated` and
    `QuotaExceeded`.
    """
    if len(set(body.segments)) != len(body.segments):
        raise InvalidRequest("segments has a hash twice, expected each segment once")
    hashes = [bytes.fromhex(one) for one in body.segments]
    write = IndexWrite(kind=body.kind, replaces=body.replaces, manifest=body.manifest, segments=hashes)
    context = await _for_writing(state, caller, Place(body.kb_id, body.context_id, body.kind))
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, body.kb_id)
        bound = await contexts.bind(connection, kb, context)
        version = await shared_indexes.put(connection, kb, bound.pk, write)
    state.metrics.shared_indexes_stored.inc()
    state.clearing.tell()
    return version


@repeatable
@frees_space
async def remove(state: ServerState, caller: ApiCaller, place: Place) -> None:
    """Removes a shared index, if any, and the segments of its kind. Raises `KnowledgeBaseNotFound`,
    `ContextNotFound`."""
    async with writing(state, caller) as connection:
        kb = await caller.locked(connection, place.kb_id)
        context = await contexts.get(connection, caller.organisation_id, place.context_id)
        bound = await contexts.find_binding(connection, kb, context)
        if bound is not None:
            await shared_indexes.remove(connection, caller.organisation_id, [bound.pk], place.kind)
    state.clearing.tell()


async def _binding_pk(connection: Connection, caller: ApiCaller, place: Place) -> int | None:
    """Returns the key of the binding, if the context is bound. Raises `KnowledgeBaseNotFound`, `ContextNotFound`."""
    target = await caller.target(connection, place.kb_id, place.context_id)
    if target.public is None:
        raise ContextNotFound(place.context_id)
    return None if target.binding is None else target.binding.pk


async def _for_writing(state: ServerState, caller: ApiCaller, place: Place) -> Context:
    """Returns the context. Raises `KnowledgeBaseNotFound`, `ContextNotFound` and `ContextRetired`."""
    async with state.database.read(caller.organisation_id) as connection:
        await caller.knowledge_base(connection, place.kb_id)
        return await contexts.get_for_writing(connection, caller.organisation_id, place.context_id)
