"""A segment: what a search needs of some chunks, immutable once it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.x_vec.chunks.envelope import Content
from xtrace_sdk.x_vec.chunks.vector_copies import vector_copies
from xtrace_sdk.x_vec.local.codec import CODEC, Codes, encode, width_of
from xtrace_sdk.x_vec.local.columns import deflated, inflated, packed, unpacked
from xtrace_sdk.x_vec.local.words import WordIndex

_VERSION: Final = 2

S = TypeVar("S", bound=np.generic)


@dataclass(frozen=True, slots=True, repr=False)
class Row:
    """A chunk to index."""

    chunk_id: int
    origin: int
    """Which context it is stored under: 0 for the newest of the lineage."""
    content: Content
    meta_data: dict[str, Any] | None = None
    """What filters on chunks decide by; None for records, and in an index without it."""


class _Stored(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    version: int
    codec: str
    dim: int
    rows: int
    chunk_ids: bytes
    origins: bytes
    levels: bytes
    factors: bytes
    needs_service: bytes
    namespaces: list[str]
    owners: bytes
    records: bytes
    words: bytes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segment:
    """Columns with one element a row."""

    dim: int
    """Of the vectors; 0 if no row has one."""
    chunk_ids: NDArray[np.int64]
    origins: NDArray[np.uint8]
    codes: Codes
    """A factor of 0 means that the row's vector cannot be compared here."""
    needs_service: NDArray[np.bool_]
    """Whether the row has a vector, but no copy of it: only the service can compare it."""
    namespaces: list[str]
    owners: NDArray[np.int32]
    """Places in `namespaces`; −1 for chunks that are not records of a collection."""
    records: list[tuple[str, bytes]]
    """The id and the metadata, as JSON, of each record. Other chunks have the empty id, and no metadata if that is not
    indexed."""
    words: WordIndex
    derived: dict[str, Any] = field(default_factory=dict)
    """What searches compute from the rows and need again, under names of theirs."""

    def __len__(self) -> int:
        return len(self.chunk_ids)

    @property
    def has_vector(self) -> NDArray[np.bool_]:
        """Which rows have a vector: those that a search by vectors may find, here or on the service."""
        found: NDArray[np.bool_] = (self.codes.factors > 0) | self.needs_service
        return found

    @classmethod
    def of(cls, rows: Sequence[Row], dim: int) -> Self:
        """The segment of some chunks, whose copies of vectors have `dim` elements; 0 if that is not known yet.

        A copy of another length counts as none.
        """
        records = [row.content.record for row in rows]
        namespaces = sorted({record.namespace for record in records if record is not None})
        places = {namespace: place for place, namespace in enumerate(namespaces)}
        copies, has_copy, dim = _copies(rows, dim)
        codes = encode(copies) if dim else Codes(np.empty((len(rows), 0), np.uint8), np.zeros(len(rows), np.float32))
        has_vector = np.array([record is None or record.has_vector for record in records], np.bool_)
        return cls(
            dim,
            np.array([row.chunk_id for row in rows], np.int64),
            np.array([row.origin for row in rows], np.uint8),
            codes,
            has_vector & ~has_copy,
            namespaces,
            np.array([-1 if record is None else places[record.namespace] for record in records], np.int32),
            [_record(row) for row in rows],
            WordIndex.build(_text(row.content) for row in rows),
        )

    @classmethod
    def merged(cls, segments: Sequence["Segment"], kept: Sequence[NDArray[np.bool_]]) -> Self:
        """One segment of the kept rows of several, in their order."""
        dim = max(segment.dim for segment in segments)
        width = width_of(dim) // 2 if dim else 0
        namespaces = sorted(
            {
                segment.namespaces[owner]
                for segment, keep in zip(segments, kept, strict=True)
                for owner in np.unique(segment.owners[keep]).tolist()
                if owner >= 0
            }
        )
        places = {name: place for place, name in enumerate(namespaces)}
        owners = [
            np.array([*(places.get(name, -1) for name in segment.namespaces), -1], np.int32)[segment.owners[keep]]
            for segment, keep in zip(segments, kept, strict=True)
        ]
        levels = [
            segment.codes.levels[keep] if segment.dim else np.zeros((int(keep.sum()), width), np.uint8)
            for segment, keep in zip(segments, kept, strict=True)
        ]
        return cls(
            dim,
            _joined([segment.chunk_ids for segment in segments], kept),
            _joined([segment.origins for segment in segments], kept),
            Codes(np.concatenate(levels), _joined([segment.codes.factors for segment in segments], kept)),
            _joined([segment.needs_service for segment in segments], kept),
            namespaces,
            np.concatenate(owners),
            [
                segment.records[row]
                for segment, keep in zip(segments, kept, strict=True)
                for row in np.flatnonzero(keep).tolist()
            ],
            WordIndex.merge([segment.words for segment in segments], kept),
        )

    def to_bytes(self) -> bytes:
        """Returns what `from_bytes` takes."""
        width = self.codes.levels.shape[1] * 2
        return msgspec.msgpack.encode(
            _Stored(
                _VERSION,
                CODEC,
                self.dim,
                len(self),
                packed(np.diff(self.chunk_ids, prepend=0), "<i8"),
                packed(self.origins, "u1"),
                self.codes.levels.tobytes(),  # noise to a compressor that is fast enough
                packed(self.codes.factors * width, "<f2"),
                packed(self.needs_service, "u1"),
                self.namespaces,
                packed(self.owners, "<i4"),
                deflated(msgspec.msgpack.encode(self.records)),
                self.words.to_bytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the segment that `to_bytes` wrote; the data must be authentic.

        Raises `ValueError` for another version of the format, of the codec or of the tokeniser, and for columns that do
        not fit together.
        """
        stored = msgspec.msgpack.decode(data, type=_Stored)
        if (stored.version, stored.codec) != (_VERSION, CODEC):
            raise ValueError(f"the segment has version {stored.version} and codec {stored.codec}")
        rows, width = stored.rows, width_of(stored.dim) if stored.dim else 0
        factors: NDArray[np.float32] = unpacked(stored.factors, rows, "<f2", np.float32)
        factors /= np.float32(width or 1)
        found = cls(
            stored.dim,
            np.cumsum(unpacked(stored.chunk_ids, rows, "<i8", np.int64)),
            unpacked(stored.origins, rows, "u1", np.uint8),
            Codes(np.frombuffer(stored.levels, np.uint8).reshape(rows, width // 2), factors),
            unpacked(stored.needs_service, rows, "u1", np.bool_),
            stored.namespaces,
            unpacked(stored.owners, rows, "<i4", np.int32),
            msgspec.msgpack.decode(inflated(stored.records), type=list[tuple[str, bytes]]),
            WordIndex.from_bytes(stored.words),
        )
        owners = found.owners
        if (
            len(found.records) != rows
            or len(found.words) != rows
            or not (-1 <= owners.min(initial=-1) <= owners.max(initial=-1) < len(stored.namespaces))
        ):
            raise ValueError("the columns of the segment have different lengths")
        return found


def code_of(content: Content) -> Codes | None:
    """The code of a fetched chunk; None if it has no copy of its vector."""
    if content.vector_copy is None:
        return None
    return encode(_as_int8(content.vector_copy[None]))


def _copies(rows: Sequence[Row], dim: int) -> tuple[NDArray[np.int8], NDArray[np.bool_], int]:
    """The `int8` copies, zeros where there is none, which rows have one, and their length."""
    found = {place: row.content.vector_copy for place, row in enumerate(rows) if row.content.vector_copy is not None}
    dim = dim or next((len(copy) for copy in found.values()), 0)
    found = {place: copy for place, copy in found.items() if len(copy) == dim}
    copies, has_copy = np.zeros((len(rows), dim), np.int8), np.zeros(len(rows), np.bool_)
    if found:
        places = list(found)
        kinds = {copy.dtype for copy in found.values()}
        if len(kinds) == 1:
            copies[places] = _as_int8(np.stack(list(found.values())))
        else:
            for place, copy in found.items():
                copies[place] = _as_int8(copy[None])[0]
        has_copy[places] = True
    return copies, has_copy, dim


def _as_int8(copies: NDArray[Any]) -> NDArray[np.int8]:
    """Copies of vectors of either kind, as `int8`."""
    whole = copies if copies.dtype == np.int8 else vector_copies(copies.astype(np.float32), "int8")
    return whole.astype(np.int8, copy=False)


def _record(row: Row) -> tuple[str, bytes]:
    if row.content.record is not None:
        return row.content.record.id, row.content.record.attributes.encode()
    return "", b"" if row.meta_data is None else msgspec.json.encode(row.meta_data)


def _text(content: Content) -> str | None:
    return content.text if content.record is None or content.record.has_text else None


def _joined(columns: Sequence[NDArray[S]], kept: Sequence[NDArray[np.bool_]]) -> NDArray[S]:
    return np.concatenate([column[keep] for column, keep in zip(columns, kept, strict=True)])
