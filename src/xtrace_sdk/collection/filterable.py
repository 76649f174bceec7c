"""The metadata fields by which the service can filter with keyed hashes, including ranges of numbers.

A record is stored with the hashes of exactly these fields. So a collection keeps the choice with which it was created
(`storage`): otherwise, a filter would miss records that were stored without hashes of its field.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

import msgspec

from xtrace_sdk.arguments import OwnCheck, shown
from xtrace_sdk.collection.values import Ordering, is_number
from xtrace_sdk.errors import InvalidArgument, UnknownContent

MAX_BUCKETS: Final = 1 << 24
"""The maximum number of steps of one range, so that a number has at most 12 hashes."""
MAX_FIELDS: Final = 1000
EVERY_FIELD: Final = "*"
"""The name for all fields that are not named themselves."""
_BITS: Final = 2
"""A bucket contains 2² buckets of the next smaller level."""

Bucket = tuple[int, int]
"""A level, 0 for the smallest buckets, and the position of a bucket there."""


@dataclass(frozen=True, slots=True)
class Range:
    """A field of numbers that the service can filter by `$gt`, `$gte`, `$lt`, `$lte` and `$between`.

    The numbers from `low` to `high` are divided into steps; numbers outside count as the first or the last step. The
    service gets a hash of a number's step, of the group of 4 steps that contains it, of the group of 16, and so on.
    For two records it learns the smallest group that contains both, but not which number is greater, nor either value.
    The client checks the edges, so results are exact for any step. A smaller step needs more hashes; a larger one
    makes the client check more records.

    Raises `InvalidArgument` for numbers that do not form a range, and for more than 16,777,216 steps.
    """

    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if not is_number(value) or not math.isfinite(value):
                raise InvalidArgument(f"{name} of a range is {shown(value)}, expected a finite number")
            object.__setattr__(self, name, float(value))
        if not self.low < self.high or not self.step > 0:
            raise InvalidArgument("a range is empty, expected low below high, and a step above 0")
        if not (self.high - self.low) / self.step < MAX_BUCKETS:
            raise InvalidArgument(f"a range has more than {MAX_BUCKETS} steps, expected a larger step")

    @property
    def last(self) -> int:
        """The position of the last step."""
        return self._position(self.high)

    @property
    def levels(self) -> int:
        """The number of levels, including the steps themselves; the largest level has at most four groups."""
        return max(1, -(-self.last.bit_length() // _BITS))

    def position(self, number: float) -> int:
        """Returns the position of a number's step; a greater number never has a smaller position."""
        if number <= self.low:
            return 0
        return self.last if number >= self.high else self._position(float(number))

    def buckets(self, number: float) -> list[Bucket]:
        """Returns the buckets that contain a number, one on each level."""
        position = self.position(number)
        return [(level, position >> (_BITS * level)) for level in range(self.levels)]

    def covering(self, ordering: Ordering, number: float) -> list[Bucket]:
        """Returns buckets that together contain every number that satisfies the comparison, and perhaps others."""
        position = self.position(number)
        first, last = (position, self.last) if ordering in ("gt", "gte") else (0, position)
        mask = (1 << _BITS) - 1
        found: list[Bucket] = []
        for level in range(self.levels):
            if level == self.levels - 1:
                return found + [(level, one) for one in range(first, last + 1)]
            while first <= last and first & mask:
                found.append((level, first))
                first += 1
            while first <= last and (last + 1) & mask:
                found.append((level, last))
                last -= 1
            if first > last:
                return found
            first, last = first >> _BITS, ((last + 1) >> _BITS) - 1
        return found

    def _position(self, number: float) -> int:
        return int((number - self.low) // self.step)


Filterable = Annotated[bool | Iterable[str] | Mapping[str, Any], OwnCheck]
"""True for every field, False for none, the names of some, or names with True, False or a `Range` each."""


@dataclass(frozen=True, slots=True)
class FilterableFields:
    """The fields whose hashes the service gets. A field includes everything inside it."""

    fields: Mapping[str, Range | None]
    """The names, `*` for every field, with their ranges."""
    left_out: frozenset[str] = frozenset()
    """Fields without hashes, although `*` or an enclosing field has them."""

    @classmethod
    def of(cls, chosen: Any) -> Self:
        """Parses a user's choice. Raises `InvalidArgument`."""
        if isinstance(chosen, bool):
            return cls({EVERY_FIELD: None} if chosen else {})
        if isinstance(chosen, str) or not isinstance(chosen, Iterable):
            raise InvalidArgument(
                f"filterable is {shown(chosen)}, expected True, a list of fields, or {{field: True, False or Range(…)}}"
            )
        given = dict(chosen) if isinstance(chosen, Mapping) else dict.fromkeys(chosen, True)
        if len(given) > MAX_FIELDS or not all(isinstance(name, str) and name for name in given):
            raise InvalidArgument(f"filterable names something that is not a field, or more than {MAX_FIELDS} fields")
        for name, value in given.items():
            if not isinstance(value, bool | Range):
                raise InvalidArgument(f"filterable[{name[:64]!r}] is {shown(value)}, expected True, False or a Range")
        if given and not any(given.values()):
            raise InvalidArgument(
                "filterable only excludes fields, expected at least one that is True, such as '*' for all"
            )
        fields = {name: value if isinstance(value, Range) else None for name, value in sorted(given.items()) if value}
        return cls(fields, frozenset(name for name, value in given.items() if value is False) - {EVERY_FIELD})

    @property
    def is_empty(self) -> bool:
        """Whether the service gets no hashes at all."""
        return not self.fields

    def covers(self, path: str) -> bool:
        """Whether the service gets hashes of the value at this path; the longest matching name decides."""
        name = path
        while name:
            if name in self.fields or name in self.left_out:
                return name in self.fields
            name = name.rpartition(".")[0]
        return EVERY_FIELD in self.fields

    def range_of(self, path: str) -> Range | None:
        """The range of a field of numbers, if it was chosen to have one."""
        return self.fields.get(path)

    def as_object(self) -> dict[str, Any]:
        """The choice in its stored form (docs/formats.md, "Records")."""
        kept: dict[str, Any] = {
            name: None if one is None else [one.low, one.high, one.step] for name, one in self.fields.items()
        }
        return kept | dict.fromkeys(sorted(self.left_out), False)

    @classmethod
    def from_object(cls, kept: Any) -> Self:
        """The inverse of `as_object`. Raises `UnknownContent` for anything else."""
        try:
            read = msgspec.convert(kept, dict[str, tuple[float, float, float] | Literal[False] | None])
            return cls.of({name: Range(*one) if one else one is None for name, one in read.items()})
        except (msgspec.ValidationError, InvalidArgument):
            raise UnknownContent(
                "the collection's filterable fields are stored in a format that this version does not support: "
                "update XTrace"
            ) from None

    def __str__(self) -> str:
        if self.is_empty:
            return "none"
        names = [name[:64] + ("" if one is None else " (a range)") for name, one in self.fields.items()]
        shown_names = ", ".join("all others" if name == EVERY_FIELD else name for name in names[:10])
        listed = "all" if names == [EVERY_FIELD] else shown_names + (", …" if len(names) > 10 else "")
        return listed + (f" but for {len(self.left_out)}" if self.left_out else "")
