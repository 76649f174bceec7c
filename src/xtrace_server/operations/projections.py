"""The fields of chunks that a request selects."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET

from xtrace_core.wire import PROJECTION_FIELDS, TAGS, Chunk, MetaData
from xtrace_server.errors import InvalidRequest
from xtrace_server.storage.chunks import ChunkFields, StoredChunk


@dataclass(frozen=True, slots=True)
class Projection:
    """Fields of chunks; `chunk_id` is always among them."""

    top_level: frozenset[str]
    meta_data: frozenset[str]

    @property
    def fields(self) -> ChunkFields:
        """The columns to read for it."""
        return ChunkFields(
            facets="facets" in self.meta_data,
            content="chunk_content" in self.top_level,
            row="index" in self.top_level,
        )

    def chunk(self, stored: StoredChunk, index: list[bytes]) -> Chunk:
        """Returns the chunk with these fields; `index` contains its ciphertexts if they are selected."""
        wanted = self.top_level
        return Chunk(
            chunk_id=stored.chunk_id,
            meta_data=self._meta_data(stored) if "meta_data" in wanted else UNSET,
            name=stored.name if "name" in wanted else UNSET,
            created_at=stored.created_at if "created_at" in wanted else UNSET,
            updated_at=stored.updated_at if "updated_at" in wanted else UNSET,
            chunk_content=stored.content if "chunk_content" in wanted else UNSET,
            index=index if "index" in wanted else UNSET,
            nonce=stored.nonce if "nonce" in wanted and stored.nonce is not None else UNSET,
        )

    def _meta_data(self, stored: StoredChunk) -> MetaData:
        shown = MetaData()
        for tag, value in zip(TAGS, stored.tags, strict=True):
            if value is not None and tag in self.meta_data:
                setattr(shown, tag, value)
        if stored.facets and "facets" in self.meta_data:
            shown.facets = stored.facets
        return shown


_META_DATA: Final = frozenset((*TAGS, "facets"))
_TOP_LEVEL: Final = PROJECTION_FIELDS - _META_DATA
_SECRET: Final = frozenset(("chunk_content", "index", "nonce"))

EVERYTHING: Final = Projection(_TOP_LEVEL, _META_DATA)


def projection(names: Iterable[str] | None, return_content: bool | None = None) -> Projection:
    """Returns the projection of a metadata search: without names, all fields except content, index and nonce.

    Raises `InvalidRequest` for an unknown name.
    """
    named = list(names or ())
    if not named:
        top_level, meta_data = set(_TOP_LEVEL - _SECRET), _META_DATA
    else:
        top_level, meta_data = _named(named)
    if return_content:
        top_level.add("chunk_content")
    if top_level & _SECRET:
        top_level.add("nonce")
    return Projection(frozenset(top_level), meta_data)


def _named(names: Iterable[str]) -> tuple[set[str], frozenset[str]]:
    top_level, single = set(), set()
    for name in names:
        if name in _META_DATA:
            single.add(name)
        elif name in _TOP_LEVEL:
            top_level.add(name)
        else:
            known = ", ".join(sorted(PROJECTION_FIELDS))
            raise InvalidRequest(f"projection names {name[:64]!r}, expected one of {known}")
    if "meta_data" in top_level:
        return top_level, _META_DATA
    return top_level | ({"meta_data"} if single else set()), frozenset(single)
