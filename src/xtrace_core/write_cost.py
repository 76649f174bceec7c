"""What a write costs the service's database, in units of a small chunk: about 27 microseconds of its only writer.

Measured on SQLite with an insertion of 1,000 chunks: 27 microseconds a chunk, 5 a facet, 5 nanoseconds a byte.
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec import UNSET

from xtrace_core.wire import TAGS, ChunkPatch, ChunkUpdate, MetaData, NewChunk

_FACETS: Final = 5
"""The number of facets that cost as much as a chunk."""
_BYTES: Final = 5000
"""The number of bytes that cost as much as a chunk."""


def write_cost(chunks: Iterable[NewChunk | ChunkUpdate | ChunkPatch]) -> int:
    """Returns the cost of writing these chunks, at least one for each."""
    return sum([_cost(chunk) for chunk in chunks])


def metadata_cost(meta_data: MetaData) -> int:
    """Returns the cost of setting these tags and facets on one chunk, at least one."""
    return 1 + _metadata(meta_data)


def _cost(chunk: NewChunk | ChunkUpdate | ChunkPatch) -> int:
    size = _length(chunk.chunk_content) + _length(chunk.name)
    if isinstance(chunk.index, list):
        size += sum([_length(one) for one in chunk.index])
    meta_data = chunk.meta_data
    return 1 + size // _BYTES + (_metadata(meta_data) if isinstance(meta_data, MetaData) else 0)


def _metadata(meta_data: MetaData) -> int:
    # Tags and facets are also in an index.
    size = 2 * sum([len(value) for tag in TAGS if isinstance(value := getattr(meta_data, tag), str)])
    facets = meta_data.facets
    if facets is UNSET or facets is None:
        return size // _BYTES
    return (size + 2 * sum(map(len, facets))) // _BYTES + len(facets) // _FACETS


def _length(value: Any) -> int:
    """For a text, the number of characters: a good enough approximation."""
    return len(value) if isinstance(value, str | bytes) else 0
