"""Private metadata fields, of which only keyed hashes may be sent: anything else is rejected before it is sent.

Code that has the keys has already replaced plaintext values with hashes (docs/formats.md, "Private metadata"). Values
that do not look like hashes bypassed it.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, TypeVar

import msgspec

from xtrace_core import wire
from xtrace_core.metadata_filter import (
    AllFacets,
    And,
    AnyFacet,
    Filter,
    Not,
    Or,
    TagCompare,
    TagIn,
    parse_filter,
)
from xtrace_sdk.errors import InvalidMetaData, NotOnPrivateField
from xtrace_sdk.service.contract import Service
from xtrace_sdk.service.payloads import encode

T = TypeVar("T")

_CHUNKS: Final = ("chunks", "chunk_updates", "chunk_patches")
_HASH: Final = re.compile(r"(#[0-9a-f]{32})?")
"""The form of a hash, or of an empty value, which stays empty."""


class PrivateFields:
    """The private fields of contexts that have been declared."""

    def __init__(self) -> None:
        self._fields: dict[str, frozenset[str]] = {}

    def declare(self, context_id: str, fields: Iterable[str]) -> None:
        """From now on, allows only hashes in these fields of this context."""
        self._fields[context_id] = frozenset(fields)

    def check(self, payload: Any) -> None:
        """Raises `InvalidMetaData` or `NotOnPrivateField` if a payload for a context contains a plaintext value."""
        fields = self._fields.get(payload.context_id)
        if fields:
            _check_meta_data(fields, payload)
            _check_filter(fields, getattr(payload, "meta_filter", None))
            if (sort_by := getattr(payload, "sort_by", None)) in fields:
                raise NotOnPrivateField(
                    f"sort_by is {sort_by}, which is private in this context: hashes cannot be sorted"
                )


class PrivacyChecked:
    """The calls of a service whose payloads are checked before they are sent."""

    _service: Service
    _private_fields: PrivateFields

    def _checked(self, payload: T) -> T:
        self._private_fields.check(payload)
        return payload

    def _body(self, payload: msgspec.Struct) -> bytes:
        return encode(self._checked(payload))


def _check_meta_data(fields: frozenset[str], payload: Any) -> None:
    chunks = next((getattr(payload, name) for name in _CHUNKS if hasattr(payload, name)), ())
    for meta_data in (*(chunk.meta_data for chunk in chunks), getattr(payload, "patch", None)):
        for field in fields if isinstance(meta_data, wire.MetaData) else ():
            value = getattr(meta_data, field)
            if not _are_hashes([value] if isinstance(value, str) else value or ()):
                raise InvalidMetaData(
                    f"meta_data has a plaintext value of {field}, which is private in this context: "
                    "store and patch it with a DataLoader; nothing was sent"
                )


def _check_filter(fields: frozenset[str], meta_filter: Any) -> None:
    for field, is_equality, texts in _conditions(parse_filter(meta_filter)):
        if field in fields and not (is_equality and _are_hashes(texts)):
            raise NotOnPrivateField(
                f"meta_filter has a plaintext value of {field}, which is private in this context: "
                "use Retriever and DataLoader, which translate it; nothing was sent"
            )


def _are_hashes(texts: Iterable[str]) -> bool:
    return all(_HASH.fullmatch(text) for text in texts)


def _conditions(filter_: Filter) -> Iterable[tuple[str, bool, tuple[str, ...]]]:
    """Yields `(field, whether it tests equality, values)` for each condition with values."""
    match filter_:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _conditions(part)
        case Not(part):
            yield from _conditions(part)
        case TagCompare(tag, comparison, value):
            yield tag, comparison == "eq", (value,)
        case TagIn(tag, values):
            yield tag, True, values
        case AnyFacet(tokens) | AllFacets(tokens):
            yield "facets", True, tokens
