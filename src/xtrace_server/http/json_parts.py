"""Finds the parts of a large JSON body without decoding it.

A decoder blocks every other thread until it is done, and the client decides for how long: millions of tiny values in
one body take seconds. So a large body is scanned first, slice by slice, for the members of its object, the start and
end of each element of its long list, and their numbers of values. What exceeds the limits is rejected here; the rest is
decoded part by part.

Nothing else is checked: a body is valid JSON if and only if its elements are, and the body without them is.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import numpy as np

from xtrace_server.errors import InvalidRequest
from xtrace_server.http.body_parts import LongList, PartBounds, Parts
from xtrace_server.settings import Settings

_SLICE_BYTES: Final = 128 * 1024
"""The bytes scanned in one step, which takes a fraction of a millisecond."""
_MAX_KEY_BYTES: Final = 2048
_BLANK: Final = b" \t\r\n"
_KEY: Final = re.compile(rb'[ \t\r\n]*("(?:[^"\\]|\\.)*")[ \t\r\n]*:', re.DOTALL)
_QUOTE, _COMMA, _OPEN_LIST, _OPEN, _CLOSE = b'",[{}'


def json_parts(settings: Settings, body: bytes, long: LongList | None) -> Parts:
    """Returns the parts of a body that must be an object; otherwise they are meaningless, and the decoder rejects it.

    Raises `TooLarge` and `LimitExceeded` if it exceeds the limits, and `InvalidRequest` if the long list occurs twice.
    """
    return _Reader(settings, body, long).read()


class _Mark(NamedTuple):
    """A comma or a bracket outside strings."""

    place: int
    kind: int
    depth: int
    """The number of open brackets after it."""
    values: int
    """The number of commas and opening brackets up to it."""


class _Reader:
    """Scans the marks of one body."""

    def __init__(self, settings: Settings, body: bytes, long: LongList | None) -> None:
        self._body = body
        self._long = long
        self._bounds = PartBounds(settings, long)
        self._members: dict[str, tuple[int, int]] = {}
        self._elements: list[tuple[int, int]] = []
        self._before = _Mark(-1, _OPEN, 0, 0)
        """The mark before the current member or element."""
        self._in_list = False
        """Whether the scan is in the long list."""

    def read(self) -> Parts:
        values = 0
        for mark in _shallow_marks(self._body):
            values = mark.values
            if self._in_list:
                size, own = mark.place - self._before.place - 1, values - self._before.values
                self._bounds.check_element(len(self._elements), size, own)
                if mark.depth == 1 or (mark.depth == 2 and mark.kind == _COMMA):
                    self._end_element(mark)
                continue
            self._bounds.check_rest(0, values)
            if mark.depth == 1 and mark.kind == _OPEN:
                self._before = mark
            elif mark.depth == 2 and mark.kind == _OPEN_LIST:
                self._begin_list(mark)
            elif mark.depth == 0 or (mark.depth == 1 and mark.kind == _COMMA):
                self._end_member(mark)
        self._bounds.check_rest(len(self._body), values)
        return Parts(self._members, self._elements, self._rest())

    def _end_member(self, mark: _Mark) -> None:
        if (name := self._name()) is not None:
            self._members[name] = self._before.place + 1, mark.place
        self._before = mark

    def _begin_list(self, mark: _Mark) -> None:
        if self._long is None or self._name() != self._long.name:
            return
        if self._elements:
            raise InvalidRequest(f"the body has {self._long.name} twice")
        self._before, self._in_list = mark, True

    def _end_element(self, mark: _Mark) -> None:
        elements, start = self._elements, self._before.place + 1
        if mark.kind == _COMMA or elements or self._body[start : mark.place].strip(_BLANK):
            elements.append((start, mark.place))
        self._bounds.add_element(mark.place - start, mark.values - self._before.values)
        self._before = mark
        self._in_list = mark.depth != 1

    def _rest(self) -> bytes:
        body, elements = self._body, self._elements
        return body[: elements[0][0]] + body[elements[-1][1] :] if elements else body

    def _name(self) -> str | None:
        """Returns the key of the current member; None if it is missing, or too long to be a known one."""
        start = self._before.place + 1
        found = _KEY.match(self._body, start, start + _MAX_KEY_BYTES)
        try:
            return msgspec.json.decode(found[1], type=str) if found else None
        except (msgspec.DecodeError, UnicodeError):
            return None


def _shallow_marks(body: bytes) -> Iterator[_Mark]:
    """Yields the commas and brackets outside strings at which members and their elements begin and end.

    Also yields the last mark of each slice, so that values are counted.
    """
    start = depth = values = 0
    in_string = False
    while start < len(body):
        piece = body[start : start + _SLICE_BYTES]
        if len(piece) > 1 and (len(piece) - len(piece.rstrip(b"\\"))) % 2:
            piece = piece[:-1]  # keep an escaped character with its backslash
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
