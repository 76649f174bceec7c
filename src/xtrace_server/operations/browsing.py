"""Chunks as an administrator looks at them: metadata in clear, everything else as it is stored."""

import base64
import binascii
from dataclasses import dataclass, field

from xtrace_core.metadata_filter import Filter, InvalidFilter, parse_filter
from xtrace_core.wire import Chunk
from xtrace_server.auth.guard import Actor
from xtrace_server.errors import ChunksNotFound, FilterRefused, LimitExceeded
from xtrace_server.operations import by_metadata, chunks
from xtrace_server.operations.projections import EVERYTHING, projection
from xtrace_server.scope import SearchScope
from xtrace_server.state import ServerState
from xtrace_server.storage.chunks import PageQuery

PAGE_CHUNKS = 25
_CONTENT_OVERHEAD = 32
"""Bytes of the IV and of the tag before the ciphertext of a content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """Which chunks to look at: those under a context that a filter, as its JSON text, matches; `page` is from 1."""

    kb_id: str
    context_id: str
    filter: str = ""
    sort_by: str = "chunk_id"
    descending: bool = True
    page: int = 1


@dataclass(frozen=True, slots=True)
class Browsed:
    """One page of chunks, and how many there are on all pages."""

    chunks: list[Chunk]
    total: int
    has_more: bool


@dataclass(frozen=True, slots=True)
class StoredParts:
    """One chunk with its parts as they are stored."""

    chunk: Chunk
    content: bytes
    ciphertexts: list[bytes]

    @property
    def text_bytes(self) -> int:
        """How long the text is: the server sees that."""
        return max(len(self.content) - _CONTENT_OVERHEAD, 0)


async def browse(state: ServerState, actor: Actor, query: Browse) -> Browsed:
    """Returns a page of chunks without their contents and vectors.

    Raises `KnowledgeBaseNotFound`, `FilterRefused` and `LimitExceeded`.
    """
    scope = SearchScope(kb_id=query.kb_id, context_id=query.context_id, filter=_filter(state, query.filter))
    sink = _Kept()
    wanted = PageQuery(
        sort_by=query.sort_by,
        descending=query.descending,
        limit=PAGE_CHUNKS,
        offset=(query.page - 1) * PAGE_CHUNKS,
        after=None,
    )
    found = await by_metadata.page(state, actor, scope, wanted, projection(None), sink)
    return Browsed(sink.chunks, found.total, found.keys.has_more)


async def look_at(state: ServerState, actor: Actor, kb_id: str, chunk_id: int) -> StoredParts:
    """Returns one chunk with all that is stored of it. Raises `KnowledgeBaseNotFound` and `ChunksNotFound`."""
    sink = _Kept()
    await chunks.read(state, actor, kb_id, [chunk_id], EVERYTHING, sink)
    if not sink.chunks:
        raise ChunksNotFound([chunk_id])
    (chunk,) = sink.chunks
    content = chunk.chunk_content if isinstance(chunk.chunk_content, str) else ""
    index = chunk.index if isinstance(chunk.index, list) else []
    return StoredParts(chunk, _decoded(content), index)


def _filter(state: ServerState, text: str) -> Filter:
    if len(text) > state.settings.max_filter_bytes:
        raise LimitExceeded(
            f"the filter has {len(text)} characters, at most {state.settings.max_filter_bytes} are allowed"
        )
    try:
        return parse_filter(text or None, state.settings.filter_limits)
    except InvalidFilter as error:
        raise FilterRefused(str(error)) from None


def _decoded(content: str) -> bytes:
    """The bytes of a content; clients may store what is not base64, which is shown as it is."""
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content.encode()


@dataclass(slots=True)
class _Kept:
    """A sink that keeps the few chunks of a page."""

    chunks: list[Chunk] = field(default_factory=list)

    def encode(self, chunks: list[Chunk]) -> bytes:
        self.chunks += chunks
        return b""

    async def add(self, encoded: bytes) -> None:
        pass

    def reserve(self, size: int) -> None:
        pass
