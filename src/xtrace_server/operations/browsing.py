"""Chunks for administrators: metadata in plaintext, everything else as stored."""

import base64
import binascii
from dataclasses import dataclass, field, replace

from xtrace_core.metadata_filter import Filter, InvalidFilter, parse_filter
from xtrace_core.wire import TAGS, Chunk
from xtrace_server.auth.guard import Actor
from xtrace_server.errors import ChunksNotFound, FilterRefused, LimitExceeded
from xtrace_server.operations import by_metadata, chunks
from xtrace_server.operations.paging import Listed, Start
from xtrace_server.operations.projections import EVERYTHING, projection
from xtrace_server.scope import SearchScope
from xtrace_server.state import ServerState
from xtrace_server.storage import chunk_pages
from xtrace_server.storage import chunks as stored
from xtrace_server.storage.chunk_pages import PageQuery
from xtrace_server.storage.keyset import Position
from xtrace_server.storage.schema import chunk_id_of

PAGE_CHUNKS = 25
_DECODED_AT_MOST = 8192
"""Contents up to this size are read to find the length of their text; for longer ones, their size in base64 tells."""
_CONTENT_OVERHEAD = 32
"""The size of a content's IV and tag, which precede its ciphertext."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """Which chunks to show: those under a context that match a filter, given as JSON text.

    Without `start`, the first page.
    """

    kb_id: str
    context_id: str
    filter: str = ""
    sort_by: str = "chunk_id"
    descending: bool = True
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class BrowsedChunk:
    """A chunk without its content and vector, and the length of its encrypted text."""

    chunk: Chunk
    text_bytes: int | None
    """The length of the ciphertext, which equals that of the text; None if it was deleted meanwhile."""


@dataclass(frozen=True, slots=True)
class StoredParts:
    """One chunk with its parts as stored."""

    chunk: Chunk
    content: bytes
    ciphertexts: list[bytes]

    @property
    def text_bytes(self) -> int:
        """The length of the text, which the server can see."""
        return max(len(self.content) - _CONTENT_OVERHEAD, 0)


async def browse(state: ServerState, actor: Actor, query: Browse) -> Listed[BrowsedChunk]:
    """Returns a page of chunks without their contents and vectors.

    Without a filter every page costs the same. With one, each page reads the metadata of all candidates.

    Raises `KnowledgeBaseNotFound`, `FilterRefused` and `LimitExceeded`.
    """
    scope = SearchScope(kb_id=query.kb_id, context_id=query.context_id, filter=_filter(state, query.filter))
    start, sink = query.start, _Kept()
    after = None if start is None else await _position(state, actor, query, start)
    is_backward = after is not None and start is not None and start.is_before
    descending = query.descending != is_backward
    wanted = PageQuery(sort_by=query.sort_by, descending=descending, limit=PAGE_CHUNKS, offset=0, after=after)
    found = await by_metadata.page(state, actor, scope, wanted, projection(None), sink)
    if is_backward and not found.keys.has_more:
        return await browse(state, actor, replace(query, start=None))
    async with state.database.read(actor.organisation_id) as connection:
        contents = await stored.stored_contents(connection, found.keys.pks, _DECODED_AT_MOST)
    lengths = {chunk_id_of(pk): _text_bytes(*content) for pk, content in contents.items()}
    rows = [BrowsedChunk(chunk, lengths.get(chunk.chunk_id)) for chunk in sink.chunks]
    if is_backward:
        rows.reverse()
    values: list[str | int] = [_sorted_by(one.chunk, query.sort_by) for one in rows]
    return Listed(rows, values, found.total, is_backward or found.keys.has_more, after is None)


def _sorted_by(chunk: Chunk, name: str) -> str:
    """Returns the chunk's sorting value besides its id; a tag that is not set sorts as empty."""
    value = getattr(chunk.meta_data if name in TAGS else chunk, name)
    return value if isinstance(value, str) else ""


async def _position(state: ServerState, actor: Actor, query: Browse, start: Start) -> Position | None:
    """Returns where the page begins; None, for the first page, if the chunk there is gone."""
    if not (start.id.isascii() and start.id.isdigit() and len(start.id) < 20):
        return None
    async with state.database.read(actor.organisation_id) as connection:
        kb = await actor.knowledge_base(connection, query.kb_id)
        pk = stored.pk_of(kb, int(start.id))
        if pk is None:
            return None
        if start.value is not None and query.sort_by != "chunk_id":
            return Position(start.value, pk)
        return await chunk_pages.position_of(connection, pk, query.sort_by)


async def look_at(state: ServerState, actor: Actor, kb_id: str, chunk_id: int) -> StoredParts:
    """Returns everything that is stored of one chunk. Raises `KnowledgeBaseNotFound` and `ChunksNotFound`."""
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


def _text_bytes(size: int, content: str) -> int:
    """Returns the length of the ciphertext in a content of this size, whose bytes are missing if it is long.

    Then it is computed from the base64 length, and is at most two bytes too high.
    """
    return max((len(_decoded(content)) if content else size * 3 // 4) - _CONTENT_OVERHEAD, 0)


def _decoded(content: str) -> bytes:
    """Returns the bytes of a content; clients may store something other than base64, which is shown unchanged."""
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        return content.encode()


@dataclass(slots=True)
class _Kept:
    """A sink that collects the few chunks of a page."""

    chunks: list[Chunk] = field(default_factory=list)

    def encode(self, chunks: list[Chunk]) -> bytes:
        self.chunks += chunks
        return b""

    async def add(self, encoded: bytes) -> None:
        pass

    def reserve(self, size: int) -> None:
        pass
