"""Where the parts of a large JSON body are, found without decoding it.

A decoder lets no other thread run until it is done, and for how long is the client's choice: millions of tiny values in
one body take seconds. So a large body is looked at first, a slice at a time: which members its object has, where the
elements of its one long list begin and end, how many values are in each. What is more than the limits can allow is
refused here, and what remains is decoded part by part.

Nothing else is checked: a body is valid JSON exactly when its elements are, and the body without them is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np

from xtrace_server.errors import Invalid, LimitExceeded, TooLarge
from xtrace_server.settings import Settings

_SLICE_BYTES: Final = 128 * 1024
"""Looked at at a time: a fraction of a millisecond's work."""
_MIN_PART_BYTES: Final = 16 * 2**20
_SLACK: Final = 1000
"""So many values more than its limits add up to may a part have: those of its fixed fields, and of unknown ones."""
_BYTES_OF_VALUE: Final = 32
"""What is stored for a value: a large body may not be made of tiny ones only, which need more memory than they have."""
_MAX_KEY_BYTES: Final = 2048
_BLANK: Final = b" \t\r\n"
_KEY: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:', re.DOTALL)
_QUOTE, _COMMA, _OPEN_LIST, _OPEN, _CLOSE = b'",[{}'


class LongList(NamedTuple):
    """The member of a body that may be long: its name, the limit of its length, and what its elements are."""

    name: str
    limit: str
    what: str


@dataclass(slots=True)
class Parts:
    """Pieces of a body, from where to where: the members of its object, and the elements of its long list."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    elements: list[tuple[int, int]] = field(default_factory=list)

    def without_elements(self, body: bytes) -> bytes:
        """The body with its long list empty."""
        return body[: self.elements[0][0]] + body[self.elements[-1][1] :] if self.elements else body


def json_parts(settings: Settings, body: bytes, long: LongList | None) -> Parts:
    """The parts of a body that is to be an object; those of another mean nothing, and its decoder refuses it.

    Raises `TooLarge` and `LimitExceeded` for more than the limits allow, and `Invalid` if the long list comes twice.
    """
    return _Reader(settings, body, long).read()


class _Mark(NamedTuple):
    """A comma or a bracket outside strings."""

    place: int
    kind: int
    depth: int
    """How many brackets are open behind it."""
    values: int
    """How many commas and opening brackets there are up to it."""


class _Reader:
    """Goes through the marks of one body."""

    def __init__(self, settings: Settings, body: bytes, long: LongList | None) -> None:
        self._body = body
        self._long = long
        self._most_elements = getattr(settings, long.limit) if long else 0
        self._most_bytes = max(2 * settings.max_content_bytes, _MIN_PART_BYTES)
        self._most_listed_values = settings.max_body_bytes // _BYTES_OF_VALUE
        self._most_values = _SLACK + settings.max_ciphertexts + settings.max_facets
        self._most_rest_values = (
            _SLACK
            + settings.max_queries * settings.max_ciphertexts
            + settings.max_filter_values
            + 4 * settings.max_filter_conditions
        )
        self._parts = Parts()
        self._before = _Mark(-1, _OPEN, 0, 0)
        """The mark before the member or the element that is being read."""
        self._within: LongList | None = None
        """The long list, while its elements are read."""
        self._listed_bytes = self._listed_values = 0

    def read(self) -> Parts:
        values = 0
        for mark in _shallow_marks(self._body):
            values = mark.values
            if self._within is not None:
                self._check_element(self._within, mark)
                if mark.depth == 1 or (mark.depth == 2 and mark.kind == _COMMA):
                    self._end_element(mark)
                continue
            self._check_rest(0, values)
            if mark.depth == 1 and mark.kind == _OPEN:
                self._before = mark
            elif mark.depth == 2 and mark.kind == _OPEN_LIST:
                self._begin_list(mark)
            elif mark.depth == 0 or (mark.depth == 1 and mark.kind == _COMMA):
                self._end_member(mark)
        self._check_rest(len(self._body), values)
        return self._parts

    def _end_member(self, mark: _Mark) -> None:
        if (name := self._name()) is not None:
            self._parts.members[name] = self._before.place + 1, mark.place
        self._before = mark

    def _begin_list(self, mark: _Mark) -> None:
        if self._long is None or self._name() != self._long.name:
            return
        if self._parts.elements:
            raise Invalid(f"the body has {self._long.name} twice")
        self._before, self._within = mark, self._long

    def _end_element(self, mark: _Mark) -> None:
        elements, start = self._parts.elements, self._before.place + 1
        if mark.kind == _COMMA or elements or self._body[start : mark.place].strip(_BLANK):
            elements.append((start, mark.place))
        self._listed_bytes += mark.place - start
        self._listed_values += mark.values - self._before.values
        self._before = mark
        if mark.depth == 1:
            self._within = None

    def _check_element(self, long: LongList, mark: _Mark) -> None:
        """The element up to the mark, and how many there are with it."""
        size, values = mark.place - self._before.place - 1, mark.values - self._before.values
        number, what = len(self._parts.elements), long.what
        self._check(f"{long.name}[{number}]", size, values, self._most_values)
        if number == self._most_elements:
            raise TooLarge(f"the request has more than {number} {what}, the most that it may have ({long.limit})")
        if self._listed_values + values > self._most_listed_values:
            raise TooLarge(
                f"the {what} of the request have more than {self._most_listed_values} values together, one for "
                f"{_BYTES_OF_VALUE} bytes of the largest body (max_body_bytes): send fewer"
            )

    def _check_rest(self, size: int, values: int) -> None:
        where = f"the body beside {self._long.name}" if self._long else "the body"
        self._check(where, size - self._listed_bytes, values - self._listed_values, self._most_rest_values)

    def _check(self, where: str, size: int, values: int, most_values: int) -> None:
        if values > most_values:
            raise LimitExceeded(f"{where} has more than {most_values} values, which is more than all limits together")
        if size > self._most_bytes:
            raise LimitExceeded(f"{where} has {size} bytes, at most {self._most_bytes} are allowed (max_content_bytes)")

    def _name(self) -> str | None:
        """The key of the member that is being read; None if there is none, or one that is too long to be known."""
        start = self._before.place + 1
        found = _KEY.match(self._body, start, start + _MAX_KEY_BYTES)
        try:
            return msgspec.json.decode(found[1], type=str) if found else None
        except (msgspec.DecodeError, UnicodeError):
            return None


def _shallow_marks(body: bytes) -> Iterator[_Mark]:
    """The commas and brackets outside strings with which members, and the elements of members, begin and end.

    And the last mark of each slice, so that somebody sees how many values there are.
    """
    start = depth = values = 0
    in_string = False
    while start < len(body):
        piece = body[start : start + _SLICE_BYTES]
        if len(piece) > 1 and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = piece[:-1]  # what is escaped comes with its backslash
        plain = piece.replace(b"\\\\", b"__").replace(b'\\"', b"__") if b"\\" in piece else piece
        text = np.frombuffer(plain, dtype=np.uint8)
        quotes, lower = np.flatnonzero(text == _QUOTE), text | 0x20  # [ and ] become { and }
        places = np.flatnonzero((text == _COMMA) | (lower == _OPEN) | (lower == _CLOSE))
        places = places[(np.searchsorted(quotes, places) + in_string) % 2 == 0]
        kinds, opening, closing = text[places], lower[places] == _OPEN, lower[places] == _CLOSE
        depths = depth + np.cumsum(opening.astype(np.int64) - closing)
        counts = values + np.cumsum(~closing)
        shallow = depths <= np.where(closing, 1, 2)
        shallow[-1:] = True
        columns = (start + places, kinds, depths, counts)
        yield from map(_Mark._make, zip(*[column[shallow].tolist() for column in columns], strict=True))
        if len(places):
            depth, values = int(depths[-1]), int(counts[-1])
        in_string ^= len(quotes) % 2 == 1
        start += len(piece)
