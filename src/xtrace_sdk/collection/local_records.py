"""Which rows of a local index a collection's search may find, and how they are read."""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import numpy as np

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.columns import matching_rows
from xtrace_sdk.collection.contents import ReadRecord, RecordCipher
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.metadata import MetaData
from xtrace_sdk.collection.where import EVERYTHING, TEXT, And, Condition, Not, Or, Where
from xtrace_sdk.x_vec.chunks.envelope import Content
from xtrace_sdk.x_vec.local.loaded import Loaded, Mask
from xtrace_sdk.x_vec.local.segment import Segment

_HAS_ID: Final = "has_id"


class LocalRecords(Secretive):
    """The records of one namespace that match a filter."""

    __slots__ = ("_check_kept", "_cipher", "_decided", "_where", "is_decided", "key")

    def __init__(self, cipher: RecordCipher, where: Where, check_kept: Callable[[MetaData], None]) -> None:
        """`check_kept` raises if what the collection keeps about itself forbids the search."""
        self._cipher = cipher
        self._where = where
        self._check_kept = check_kept
        self._decided = _without_texts(where)
        self.is_decided = not _concerns_text(where)
        self.key = f"{cipher.namespace!r} {self._decided!r}"

    def suits(self, loaded: Loaded) -> bool:
        """True. Raises `OtherModel` if the collection was created with a different model."""
        for segment, alive in loaded.parts:
            for row in np.flatnonzero(alive & self._owned(segment) & ~_has_id(segment)).tolist():
                self._check_kept(msgspec.json.decode(segment.records[row][1], type=dict[str, Any]))
        return True

    def rows(self, segment: Segment) -> Mask:
        """Which rows are records with a vector in this namespace that match, as far as metadata can tell."""
        inside = self._owned(segment) & _has_id(segment) & segment.has_vector
        return (
            inside
            if self._decided == EVERYTHING or not inside.any()
            else inside & matching_rows(segment, self._decided)
        )

    def read(self, chunk: dict[str, Any], content: Content) -> ReadRecord | None:
        """Reads a record; None if it does not match. Raises `OtherRecord`, `UnknownContent`."""
        record = self._cipher.read(chunk, content)
        return record if matches(self._where, record.metadata, record.id, record.text) else None

    def _owned(self, segment: Segment) -> Mask:
        if self._cipher.namespace not in segment.namespaces:
            return np.zeros(len(segment), np.bool_)
        owned: Mask = segment.owners == segment.namespaces.index(self._cipher.namespace)
        return owned


def _has_id(segment: Segment) -> Mask:
    """Which rows are records, rather than a collection's own chunk or other chunks."""
    if (known := segment.derived.get(_HAS_ID)) is None:
        known = segment.derived[_HAS_ID] = np.array([bool(record_id) for record_id, _ in segment.records], np.bool_)
    found: Mask = known
    return found


def _without_texts(where: Where) -> Where:
    """What remains of a filter without its conditions on texts, which the index does not hold: it excludes less."""
    if not _concerns_text(where):
        return where
    return And(tuple(map(_without_texts, where.parts))) if isinstance(where, And) else EVERYTHING


def _concerns_text(where: Where) -> bool:
    match where:
        case And(parts) | Or(parts):
            return any(map(_concerns_text, parts))
        case Not(part):
            return _concerns_text(part)
        case Condition(path):
            return path == TEXT
