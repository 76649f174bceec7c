"""From stored values to the bodies of answers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Response
from msgspec import UNSET

from xtrace_core.schemes.interface import Evaluation, InvalidPublicKey
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_core.wire import PROJECTION_FIELDS, TAGS, Chunk, MetaData
from xtrace_server.errors import InvalidRequest
from xtrace_server.storage.chunks import ChunkFields, StoredChunk

_encoder = msgspec.json.Encoder()


def json_answer(value: Any) -> Response:
    """200 with the value as JSON."""
    return Response(_encoder.encode(value), media_type="application/json")


def evaluation(schemes: SchemeRegistry, type_: str, public_key: str) -> Evaluation:
    """The evaluation for a context's public part. Raises `InvalidRequest`."""
    try:
        return schemes.evaluation(type_, public_key)
    except InvalidPublicKey as error:
        raise InvalidRequest(f"data: {error}") from None


@dataclass(frozen=True, slots=True)
class Projection:
    """The fields of chunks that an answer has, beside `chunk_id`."""

    top_level: frozenset[str]
    meta_data: frozenset[str]

    @property
    def fields(self) -> ChunkFields:
        """What has to be read for it."""
        return ChunkFields(
            facets="facets" in self.meta_data,
            content="chunk_content" in self.top_level,
            row="index" in self.top_level,
        )

    def chunk(self, stored: StoredChunk, index: list[bytes]) -> Chunk:
        """The chunk with these fields; `index` is its ciphertexts where they are asked for."""
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


_META_DATA = frozenset((*TAGS, "facets"))
_TOP_LEVEL = PROJECTION_FIELDS - _META_DATA
_SECRET = frozenset(("chunk_content", "index", "nonce"))

EVERYTHING = Projection(_TOP_LEVEL, _META_DATA)


def projection(names: Iterable[str] | None, return_content: bool | None = None) -> Projection:
    """The projection of a metadata search: without names everything but content, index and nonce.

    Raises `InvalidRequest` for a name that no chunk's field has.
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


def chunk_list(shown: Projection, stored: Sequence[StoredChunk], evaluations: Mapping[int, Evaluation]) -> list[Chunk]:
    """The chunks as an answer has them; `evaluations` by binding, where indexes are asked for."""
    if "index" not in shown.top_level:
        return [shown.chunk(one, []) for one in stored]
    return [shown.chunk(one, evaluations[one.binding_pk].index(one.row)) for one in stored]
