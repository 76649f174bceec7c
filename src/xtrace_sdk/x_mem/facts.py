"""A fact, and the metadata of the record that stores it."""

import hashlib
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from xtrace_sdk.collection.record import Record
from xtrace_sdk.errors import UnknownContent

FILTERABLE: Final[dict[str, bool]] = {
    "*": True,
    "importance": False,
    "learned_at": False,
    "valid_from": False,
    "valid_to": False,
    "expires_at": False,
    "source": False,
}
"""The `filterable` to open a memory's collection with: the service gets no hashes of times, sources and weights."""

_TIMES: Final = ("learned_at", "valid_from", "valid_to", "expires_at")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something remembered, and when it held. Its `repr` shows only the id.

    All times are in UTC.
    """

    id: str
    text: str = field(repr=False)
    user: str | None = field(repr=False)
    """The scope that the fact was remembered in, with `agent` and `session`."""
    agent: str | None = field(repr=False)
    session: str | None = field(repr=False)
    kind: str = field(repr=False)
    key: str | None = field(repr=False)
    """What the fact is about: a newer fact with the same key in the same scope supersedes it."""
    tags: tuple[str, ...] = field(repr=False)
    importance: float = field(repr=False)
    """From 0 to 1."""
    learned_at: datetime = field(repr=False)
    """When it was remembered."""
    valid_from: datetime = field(repr=False)
    """Since when it holds."""
    valid_to: datetime | None = field(repr=False)
    """Until when it held; None if it holds still."""
    superseded_by: str | None = field(repr=False)
    """The id of the fact that superseded it."""
    expires_at: datetime | None = field(repr=False)
    """From when on it is not recalled."""
    source: str | None = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    thread: str = field(repr=False)
    """What the fact and those that it superseded have in common."""

    @property
    def scope_id(self) -> str:
        """The exact scope as one text."""
        return scope_id(self.user, self.agent, self.session)

    @property
    def holds(self) -> bool:
        """Whether no other fact has superseded it."""
        return self.valid_to is None

    def holds_at(self, moment: datetime) -> bool:
        """Whether it held at this time; it may have expired."""
        return self.valid_from <= moment and (self.valid_to is None or moment < self.valid_to)


@dataclass(frozen=True, slots=True)
class Recalled:
    """A fact that a question recalled."""

    fact: Fact
    score: float
    """What the results are ranked by: the similarity, weighed by age and importance if asked for."""
    similarity: float
    """The cosine similarity to the question, −1 to 1."""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a fact that was to be remembered."""

    op: Literal["added", "known", "superseded"]
    """`known`: the same was remembered already, and nothing was stored. `superseded`: it superseded another."""
    fact: Fact
    replaced: tuple[str, ...] = ()
    """The ids of the facts that it superseded."""


def scope_id(user: str | None, agent: str | None, session: str | None) -> str:
    """The exact scope as one text, so that the service can compare it by one hash."""
    return msgspec.json.encode([user, agent, session]).decode()


def same_text(text: str) -> str:
    """A digest that is equal for texts that differ only in case, width and spaces."""
    normal = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return hashlib.sha256(normal.encode()).hexdigest()[:32]


def as_utc(moment: datetime) -> datetime:
    """The time in UTC; one without an offset is in UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def record_of(fact: Fact, vector: Any = None) -> Record:
    """The record that stores the fact."""
    metadata: dict[str, Any] = {
        "scope": fact.scope_id,
        "user": fact.user,
        "agent": fact.agent,
        "session": fact.session,
        "kind": fact.kind,
        "key": fact.key,
        "thread": fact.thread,
        "same": same_text(fact.text),
        "holds": fact.holds,
        "tags": list(fact.tags) or None,
        "importance": fact.importance,
        "superseded_by": fact.superseded_by,
        "source": fact.source,
        "metadata": fact.metadata or None,
    }
    for name in _TIMES:
        moment: datetime | None = getattr(fact, name)
        metadata[name] = None if moment is None else moment.isoformat(timespec="microseconds")
    given = {name: value for name, value in metadata.items() if value is not None}
    return Record(fact.id, fact.text, given, vector)


def fact_of(record: Record) -> Fact:
    """The fact in a record. Raises `UnknownContent` for a record that a memory did not store."""
    found = record.metadata
    try:
        times = {name: None if found.get(name) is None else datetime.fromisoformat(found[name]) for name in _TIMES}
        learned_at, valid_from = times["learned_at"], times["valid_from"]
        if record.text is None or learned_at is None or valid_from is None:
            raise ValueError
        return Fact(
            record.id,
            record.text,
            found.get("user"),
            found.get("agent"),
            found.get("session"),
            found["kind"],
            found.get("key"),
            tuple(found.get("tags", ())),
            found["importance"],
            learned_at,
            valid_from,
            times["valid_to"],
            found.get("superseded_by"),
            times["expires_at"],
            found.get("source"),
            found.get("metadata", {}),
            found["thread"],
        )
    except (KeyError, ValueError, TypeError):
        raise UnknownContent(
            "a record in the memory's collection is not a fact: give the memory a collection, or namespace, of its own"
        ) from None
