"""The parts in which a large body is decoded, and their limits.

`json_parts` and `msgpack_parts` find them in their formats.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from xtrace_server.errors import LimitExceeded, TooLarge
from xtrace_server.settings import Settings

_MIN_PART_BYTES: Final = 16 * 2**20
_SLACK: Final = 1000
"""The number of values that a part may have beyond the sum of its limits, for fixed and unknown fields."""
_BYTES_OF_VALUE: Final = 32
"""A large body must not consist only of tiny values: one value is allowed for this many bytes of the largest body."""


class LongList(NamedTuple):
    """The member of a body that may be long: its name, the limit of its length, and the name of its elements."""

    name: str
    limit: str
    what: str


@dataclass(slots=True)
class Parts:
    """The parts of a body, by start and end: the members of its object, and the elements of its long list."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    elements: list[tuple[int, int]] = field(default_factory=list)
    rest: bytes = b""
    """Returns the body with an empty long list."""


class PartBounds:
    """The limits of one body; every check raises `TooLarge` or `LimitExceeded`."""

    def __init__(self, settings: Settings, long: LongList | None) -> None:
        self._long = long
        self._most_elements = getattr(settings, long.limit) if long else 0
        self._most_bytes = max(2 * settings.max_content_bytes, _MIN_PART_BYTES)
        self._most_listed_values = settings.max_body_bytes // _BYTES_OF_VALUE
        self.most_values = _SLACK + settings.max_ciphertexts + settings.max_facets
        """The maximum number of values in an element of the long list."""
        self.most_rest_values = (
            _SLACK
            + settings.max_queries * settings.max_ciphertexts
            + settings.max_filter_values
            + 4 * settings.max_filter_conditions
        )
        """The maximum number of values in the rest of the body."""
        self._listed_bytes = self._listed_values = 0

    def check_element(self, number: int, size: int, values: int) -> None:
        """Checks element `number` (from 0) of the long list, as far as it has been read."""
        if self._long is None:
            return
        name, limit, what = self._long
        self._check(f"{name}[{number}]", size, values, self.most_values)
        if number == self._most_elements:
            raise TooLarge(f"the request has more than {number} {what}, the maximum ({limit}): send fewer")
        if self._listed_values + values > self._most_listed_values:
            raise TooLarge(
                f"the {what} of the request have more than {self._most_listed_values} values together, one for "
                f"{_BYTES_OF_VALUE} bytes of the largest body (max_body_bytes): send fewer"
            )

    def add_element(self, size: int, values: int) -> None:
        """Counts a complete element of the long list."""
        self._listed_bytes += size
        self._listed_values += values

    def check_rest(self, size: int, values: int) -> None:
        """Checks the body as far as it has been read, without the elements of the long list."""
        where = f"the body beside {self._long.name}" if self._long else "the body"
        self._check(where, size - self._listed_bytes, values - self._listed_values, self.most_rest_values)

    def _check(self, where: str, size: int, values: int, most_values: int) -> None:
        if values > most_values:
            raise LimitExceeded(f"{where} has more than {most_values} values, the sum of all limits")
        if size > self._most_bytes:
            raise LimitExceeded(f"{where} has {size} bytes, at most {self._most_bytes} are allowed (max_content_bytes)")
