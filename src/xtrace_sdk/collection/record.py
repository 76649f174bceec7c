"""The input and output types of a collection."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from xtrace_sdk.arguments import shown
from xtrace_sdk.collection.metadata import MetaData, as_text, checked
from xtrace_sdk.errors import InvalidRecord

MAX_ID_CHARACTERS: Final = 4096


@dataclass(slots=True)
class Record:
    """A text, its vector and its metadata under an id that the user chooses.

    Its `repr` shows only the id. Two records are equal if id, text and metadata are equal.
    """

    id: str
    text: str | None = field(default=None, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    """Any JSON object."""
    vector: Any = field(default=None, repr=False, compare=False)
    """Floats or bits. None to embed the text when it is stored, an empty list for a record without a vector. A
    collection returns it only if requested: the stored copy as `(dim,)` float32, or None for a record without one. A
    copy of kind `int8` is normalised to length 1.
    """
    created_at: datetime | None = field(default=None, repr=False, compare=False)
    """When the record was first stored, according to the service; ignored when storing."""
    updated_at: datetime | None = field(default=None, repr=False, compare=False)
    """When the record was last written, according to the service; ignored when storing."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that a search found."""

    record: Record
    similarity: float
    """The cosine similarity to the query, −1 to 1: exact if copy and query are floats, else estimated from the
    distance."""
    distance: int
    """The Hamming distance of the bits, from 0 to their number."""


@dataclass(frozen=True, slots=True, repr=False)
class Written:
    """The result of an upsert: the ids of each kind, in the order of the input."""

    inserted: tuple[str, ...] = ()
    """Ids that did not exist before."""
    replaced: tuple[str, ...] = ()
    """Ids that existed and were replaced."""
    skipped: tuple[str, ...] = ()
    """Ids that existed and were kept unchanged."""

    def __repr__(self) -> str:
        return f"Written({len(self.inserted)} inserted, {len(self.replaced)} replaced, {len(self.skipped)} skipped)"

    @property
    def count(self) -> int:
        """How many records were written."""
        return len(self.inserted) + len(self.replaced)


@dataclass(frozen=True, slots=True, repr=False)
class CheckedRecord:
    """A validated record to store, whose vector may not be embedded yet."""

    position: int
    """Its position in the input, from 0."""
    id: str
    text: str | None
    metadata: MetaData
    attributes: str
    """The metadata as JSON."""
    vector: Any
    """None to embed the text, unless it is blank or missing; empty for no vector."""


_KEYS: Final = frozenset(one.name for one in fields(Record))


def checked_record(position: int, given: Any) -> CheckedRecord:
    """Validates a record, or a dictionary with its keys. Raises `InvalidRecord`, which names the position."""
    try:
        parts = {name: getattr(given, name) for name in _KEYS} if isinstance(given, Record) else given
        if not isinstance(parts, Mapping) or not _KEYS.issuperset(parts):
            raise InvalidRecord(f"it is {shown(given)} with keys other than {', '.join(sorted(_KEYS))}")
        record_id, text = checked_id(parts.get("id")), checked_text(parts.get("text"))
        metadata = checked({} if parts.get("metadata") is None else parts["metadata"])
        return CheckedRecord(position, record_id, text, metadata, as_text(metadata), parts.get("vector"))
    except InvalidRecord as error:
        raise InvalidRecord(f"record {position}: {error}") from None


def checked_id(record_id: Any) -> str:
    """Returns a valid id: a text of 1 to 4,096 characters that can be encoded as UTF-8. Raises `InvalidRecord`."""
    if not isinstance(record_id, str) or not 0 < len(record_id) <= MAX_ID_CHARACTERS:
        what = f"a text of {len(record_id)} characters" if isinstance(record_id, str) else shown(record_id)
        raise InvalidRecord(f"its id is {what}, expected a text of 1 to {MAX_ID_CHARACTERS} characters")
    _check_characters("id", record_id)
    return str(record_id)


def checked_text(text: Any) -> str | None:
    """Returns a record's text, or None if it does not have one. Raises `InvalidRecord`."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidRecord(f"its text is {shown(text)}, expected a text or None")
    _check_characters("text", text)
    return text


def _check_characters(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # its attributes contain the text
        raise InvalidRecord(
            f"its {what} contains unpaired surrogates, expected text that can be encoded as UTF-8"
        ) from None
