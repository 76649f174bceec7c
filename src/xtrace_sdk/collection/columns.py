"""Metadata as columns: a filter is decided once for each different value, not for each record.

`matching.matches` says what a filter means; this is the same for all rows of a segment at once.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property, reduce
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.collection.matching import decides
from xtrace_sdk.collection.metadata import at_path
from xtrace_sdk.collection.values import Ordering, is_number, moment, same
from xtrace_sdk.collection.where import ID, And, Condition, Not, Operator, Or, Where
from xtrace_sdk.x_vec.local.segment import Segment

Mask = NDArray[np.bool_]
Places = NDArray[np.int32]

_MAX_COLUMNS: Final = 32
"""How many columns of a segment are kept in memory."""
_COLUMNS: Final = "columns"


def matching_rows(segment: Segment, where: Where) -> Mask:
    """Which rows of a segment match a filter without conditions on texts."""
    return _matching(where, _columns(segment, _paths(where)), len(segment))


def _matching(where: Where, columns: dict[str, "Column"], count: int) -> Mask:
    match where:
        case And(parts):
            return reduce(np.logical_and, (_matching(part, columns, count) for part in parts), np.ones(count, np.bool_))
        case Or(parts):
            return reduce(np.logical_or, (_matching(part, columns, count) for part in parts), np.zeros(count, np.bool_))
        case Not(part):
            return ~_matching(part, columns, count)
        case Condition(path, operator, operand):
            return columns[path].matching(operator, operand)


def _paths(where: Where) -> set[str]:
    match where:
        case And(parts) | Or(parts):
            return set().union(*map(_paths, parts))
        case Not(part):
            return _paths(part)
        case Condition(path):
            return {path}


def _columns(segment: Segment, paths: set[str]) -> dict[str, "Column"]:
    """The columns of these paths; those that are not in memory are made in one pass over the records."""
    kept: dict[str, Column] = segment.derived.setdefault(_COLUMNS, {})
    found = {path: column for path in paths if (column := kept.get(path)) is not None}
    missing = sorted(paths - found.keys())
    values: dict[str, list[Any]] = {path: [] for path in missing}
    if missing:
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        for record_id, attributes in segment.records:
            metadata = decode(attributes) if attributes else {}
            for path, of_path in values.items():
                of_path.append(record_id if path == ID else at_path(metadata, path))
    for path, of_path in values.items():
        kept[path] = found[path] = Column(of_path)
    while len(kept) > _MAX_COLUMNS:
        kept.pop(next(iter(kept)), None)
    return found


class _Sorted(NamedTuple):
    """Some of a column's different values, ascending, with their places among all."""

    values: list[Any]
    places: Places

    @classmethod
    def of(cls, found: Iterable[tuple[Any, int]]) -> "_Sorted":
        """Sorts values that all compare with each other."""
        ascending = sorted(found, key=lambda one: one[0])
        return cls([value for value, _ in ascending], np.array([place for _, place in ascending], np.int32))

    def those(self, ordering: Ordering, operand: Any) -> Places:
        """The places of the values that are greater, less, … than the operand."""
        match ordering:
            case "gt":
                return self.places[bisect_right(self.values, operand) :]
            case "gte":
                return self.places[bisect_left(self.values, operand) :]
            case "lt":
                return self.places[: bisect_left(self.values, operand)]
            case "lte":
                return self.places[: bisect_right(self.values, operand)]


class Column:
    """The values at one path in all rows: the different ones, and which of them each row has."""

    def __init__(self, values: Sequence[Any]) -> None:
        """None means that a row has no value there."""
        self._places: dict[Any, int] = {}
        self._rows = np.fromiter(
            (self._places.setdefault(_key(value), len(self._places)) for value in values), np.int32, len(values)
        )
        self._values = [values[row] for row in np.unique(self._rows, return_index=True)[1].tolist()]

    def matching(self, operator: Operator, operand: Any) -> Mask:
        """Which rows match the condition."""
        return self._decided(operator, operand)[self._rows]

    def _decided(self, operator: Operator, operand: Any) -> Mask:
        """Which of the different values match."""
        match operator:
            case "eq":
                return self._equal(operand)
            case "in":
                return reduce(np.logical_or, map(self._equal, operand), self._none())
            case "gt" | "gte" | "lt" | "lte":
                return self._ordered(operator, operand)
            case "contains":
                return self._holding(operand) | self._with_part(operand)
            case "any":
                return reduce(np.logical_or, map(self._holding, operand), self._none())
            case "all":
                return reduce(np.logical_and, map(self._holding, operand), self._lists)
            case _:
                return np.array([decides(operator, value, operand) for value in self._values], np.bool_)

    def _none(self) -> Mask:
        return np.zeros(len(self._values), np.bool_)

    def _at(self, places: Any) -> Mask:
        mask = self._none()
        mask[places] = True
        return mask

    # Equality

    def _equal(self, operand: Any) -> Mask:
        if isinstance(operand, datetime | list | dict):  # equal to values that are written differently
            return np.array([same(value, operand) for value in self._values], np.bool_)
        place = self._places.get(_key(operand))
        return self._none() if place is None else self._at(place)

    # Order

    @cached_property
    def _numbers(self) -> _Sorted:
        return _Sorted.of((value, place) for place, value in enumerate(self._values) if is_number(value))

    @cached_property
    def _texts(self) -> _Sorted:
        return _Sorted.of((value, place) for place, value in enumerate(self._values) if isinstance(value, str))

    @cached_property
    def _times(self) -> _Sorted:
        times = ((moment(value), place) for place, value in enumerate(self._values))
        return _Sorted.of((time, place) for time, place in times if time is not None)

    def _ordered(self, ordering: Ordering, operand: Any) -> Mask:
        if is_number(operand):
            return self._at(self._numbers.those(ordering, operand))
        if isinstance(operand, datetime):
            return self._at(self._times.those(ordering, operand))
        if not isinstance(operand, str):
            return self._none()
        found = self._at(self._texts.those(ordering, operand))
        if (time := moment(operand)) is not None:
            found[self._times.places] = False
            found[self._times.those(ordering, time)] = True
        return found

    # Parts

    @cached_property
    def _lists(self) -> Mask:
        return np.array([isinstance(value, list) for value in self._values], np.bool_)

    @cached_property
    def _holders(self) -> dict[Any, list[int]]:
        """The places of the lists with each element that is neither a list nor an object."""
        found: dict[Any, list[int]] = {}
        for place in np.flatnonzero(self._lists).tolist():
            for element in self._values[place]:
                if not isinstance(element, list | dict):
                    found.setdefault(_key(element), []).append(place)
        return found

    def _holding(self, operand: Any) -> Mask:
        """Which are lists with this element."""
        if isinstance(operand, datetime):
            return np.array([decides("any", value, (operand,)) for value in self._values], np.bool_)
        return self._at(self._holders.get(_key(operand), []))

    def _with_part(self, operand: Any) -> Mask:
        """Which are texts with this part."""
        if not isinstance(operand, str):
            return self._none()
        inside = [operand in text for text in self._texts.values]
        return self._at(self._texts.places[np.array(inside, np.bool_)])


def _key(value: Any) -> Any:
    """A value as a key of dictionaries: equal keys mean that no condition tells the values apart."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return True, value
    if value is None or isinstance(value, int | float):
        return False, value
    return msgspec.json.encode(value)
