"""Keyed hashes of a record's metadata, with which the service filters without seeing values or field names.

A hash stands for one statement about a record: that it *has* a field, what a field *equals* (including the type: 1 and
1.0 are the same number, "1" and true are different values), that a field is a *list*, an *element* of it, or a
*bucket* of a range. Equal statements have equal hashes in one namespace of a context, so the service learns which
records have something in common. Hashes are sorted, so their order reveals nothing, and padded to one of a few counts.
"""

import hashlib
from typing import Any, Final

from xtrace_core.secrecy import Secretive
from xtrace_sdk.collection.filterable import Bucket, FilterableFields
from xtrace_sdk.collection.metadata import MetaData, flat
from xtrace_sdk.collection.values import is_number, scalar_key
from xtrace_sdk.errors import InvalidRecord
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.keys.mac import Mac

COUNTS: Final = (8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
"""The possible numbers of hashes of a record."""
_MARK: Final = "#"
_BYTES: Final = 16
_REMEMBERED: Final = 50_000
"""The size of the cache of hashes of short statements, most of which repeat: at most about 20 MB."""
_SHORT: Final = 200
_NO_VALUE: Final = object()


class Tokens(Secretive):
    """Computes the hashes of one namespace of a context."""

    __slots__ = ("_known", "_mac", "all_records", "kept", "with_vector")

    def __init__(self, context: ExecutionContext, namespace: str) -> None:
        self._mac = Mac(context.pseudonym("record tokens", namespace).encode())
        self._known: dict[tuple[str, str, type, Any], str] = {}
        self.all_records = self._hash("records")
        """The hash of every record of the namespace, in `tag1`."""
        self.with_vector = self._hash("vectors")
        """The hash of a record with a vector, in `tag2`."""
        self.kept = self._hash("kept")
        """The hash of the collection's own chunk, in `tag3`."""

    def has(self, path: str) -> str:
        """The statement that the field exists and is not null."""
        return self._token("has", path)

    def equals(self, path: str, value: Any) -> str | None:
        """The statement that the field has this value; None for lists and objects, which are not hashed in this way."""
        return None if isinstance(value, dict | list) else self._token("is", path, value)

    def is_list(self, path: str) -> str:
        """The statement that the field is a list."""
        return self._token("list", path)

    def element(self, path: str, value: Any) -> str | None:
        """The statement that the field is a list with this element; None for elements that are not hashed."""
        return None if isinstance(value, dict | list) else self._token("in", path, value)

    def bucket(self, path: str, bucket: Bucket) -> str:
        """The statement that the field is a number in this bucket of its range."""
        return self._token("range", path, bucket)

    def of(self, metadata: MetaData, fields: FilterableFields, filler: str) -> list[str]:
        """Returns all hashes of a record with this checked metadata, sorted, padded with those of `filler`.

        Raises `InvalidRecord` for more than 1,024.
        """
        if fields.is_empty:
            return []
        found: set[str] = set()
        for path, value in flat(metadata):
            if value is not None and fields.covers(path):
                found.add(self.has(path))
                self._add(found, path, value, fields)
        if len(found) > COUNTS[-1]:
            raise InvalidRecord(
                f"its metadata needs {len(found)} hashes to be filterable, at most {COUNTS[-1]} are allowed: choose "
                "the fields with filterable=[…], without long lists"
            )
        missing = next(count for count in COUNTS if count >= len(found)) - len(found)
        return sorted([*found, *self._nothing(filler, missing)])

    def _add(self, found: set[str], path: str, value: Any, fields: FilterableFields) -> None:
        if isinstance(value, list):
            found.add(self.is_list(path))
            found.update(token for one in value if (token := self.element(path, one)) is not None)
        elif (token := self.equals(path, value)) is not None:
            found.add(token)
            if is_number(value) and (span := fields.range_of(path)) is not None:
                found.update(self.bucket(path, one) for one in span.buckets(value))

    def _nothing(self, filler: str, count: int) -> list[str]:
        """Returns padding hashes, the same for the same filler."""
        if not count:
            return []
        seed = self._mac.digest(f"nothing{filler}".encode())
        drawn = hashlib.shake_256(seed).hexdigest(_BYTES * count)
        return [_MARK + drawn[i : i + 2 * _BYTES] for i in range(0, len(drawn), 2 * _BYTES)]

    def _token(self, statement: str, path: str, value: Any = _NO_VALUE) -> str:
        # 1, 1.0 and True are equal, and would share an entry in the cache.
        key = statement, path, value.__class__, value
        if (known := self._known.get(key)) is None:
            # The length of the path shows where it ends, so that no two statements have the same encoding.
            written = f"{statement}{len(path)}:{path}{_written(value)}"
            known = self._hash(written)
            if len(written) <= _SHORT:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = known
        return known

    def _hash(self, statement: str) -> str:
        return _MARK + self._mac.digest(statement.encode())[:_BYTES].hex()


def _written(value: Any) -> str:
    """The value of a statement: none, a scalar, or a bucket."""
    if value is _NO_VALUE:
        return ""
    return f"{value[0]}:{value[1]}" if isinstance(value, tuple) else scalar_key(value) or ""
