"""What goes into a collection and comes out of it."""

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
    """A text, its vector and its metadata under an id of the user's own.

    Its `repr` shows the id alone. Two are equal if id, text and metadata are.
    """

    id: str
    text: str | None = field(default=None, repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    """Any JSON object."""
    vector: Any = field(default=None, repr=False, compare=False)
    """Floats or bits. None to have the text embedded when it is stored, an empty list for a record without a vector.

    From a collection it comes only if asked for: `(dim,)` float32, the copy that is stored with the record; None for a
    record without one. A copy of the kind `int8` has the vector's direction and the length 1.
    """
    created_at: datetime | None = field(default=None, repr=False, compare=False)
    """When it was first stored, as the service says; ignored in what is stored."""
    updated_at: datetime | None = field(default=None, repr=False, compare=False)
    """When it was last written, likewise."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that a search found."""

    record: Record
    similarity: float
    """The cosine similarity to the query, −1 to 1: of the vector's copy if both are floats, else estimated from the
    distance."""
    distance: int
    """The Hamming distance of the bits, 0 to their number."""


@dataclass(frozen=True, slots=True, repr=False)
class Written:
    """What an upsert did with the records; the ids of each kind in the order in which they were given."""

    inserted: tuple[str, ...] = ()
    """Those that were not there before."""
    replaced: tuple[str, ...] = ()
    """Those that were there, and are now as they were given."""
    skipped: tuple[str, ...] = ()
    """Those that were there, and were left as they were."""

    def __repr__(self) -> str:
        return f"Written({len(self.inserted)} inserted, {len(self.replaced)} replaced, {len(self.skipped)} skipped)"

    @property
    def count(self) -> int:
        """How many records were written."""
        return len(self.inserted) + len(self.replaced)


@dataclass(frozen=True, slots=True, repr=False)
class CheckedRecord:
    """A record as it is stored, checked; its vector is not embedded yet."""

    position: int
    """Its place among those that were given, from 0."""
    id: str
    text: str | None
    metadata: MetaData
    attributes: str
    """The metadata as JSON."""
    vector: Any
    """None to embed the text, if there is one that is not blank; empty for none."""


_KEYS: Final = frozenset(one.name for one in fields(Record))


def checked_record(position: int, given: Any) -> CheckedRecord:
    """The record, or the object with the keys of one, checked. Raises `InvalidRecord`, which says the position."""
    try:
        parts = {name: getattr(given, name) for name in _KEYS} if isinstance(given, Record) else given
        if not isinstance(parts, Mapping) or not _KEYS.issuperset(parts):
            raise InvalidRecord(f"it is {shown(given)} with other keys than {', '.join(sorted(_KEYS))}")
        record_id, text = checked_id(parts.get("id")), checked_text(parts.get("text"))
        metadata = checked({} if parts.get("metadata") is None else parts["metadata"])
        return CheckedRecord(position, record_id, text, metadata, as_text(metadata), parts.get("vector"))
    except InvalidRecord as error:
        raise InvalidRecord(f"record {position}: {error}") from None


def checked_id(record_id: Any) -> str:
    """A record's id. Raises `InvalidRecord` for anything but a text of 1 to 4,096 characters that UTF-8 can hold."""
    if not isinstance(record_id, str) or not 0 < len(record_id) <= MAX_ID_CHARACTERS:
        what = f"a text of {len(record_id)} characters" if isinstance(record_id, str) else shown(record_id)
        raise InvalidRecord(f"its id is {what}, expected a text of 1 to {MAX_ID_CHARACTERS} characters")
    _check_characters("id", record_id)
    return str(record_id)


def checked_text(text: Any) -> str | None:
    """A record's text, or None for none. Raises `InvalidRecord`."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise InvalidRecord(f"its text is {shown(text)}, expected a text or None")
    _check_characters("text", text)
    return text


def _check_characters(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # its attributes hold the text
        raise InvalidRecord(f"its {what} holds unpaired surrogates, expected text that UTF-8 can hold") from None
