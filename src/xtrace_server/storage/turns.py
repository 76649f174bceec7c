"""Shares a few places among organisations, so that the busiest one does not make the others wait.

Waiting requests are served by organisation in turn (round robin; Nagle, RFC 970), and within one in order of arrival.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from xtrace_server.errors import Unavailable

_Place: TypeAlias = asyncio.Future[None]


class Turns:
    """`places` at once, of which one organisation has at most `share`."""

    def __init__(self, places: int, share: int, patience_s: float) -> None:
        self._free = places
        self._share = share
        self._patience_s = patience_s
        self._held: Counter[str] = Counter()
        self._urgent, self._other = _Line(), _Line()
        self._last_was_urgent = False

    @asynccontextmanager
    async def turn(self, organisation_id: str, *, urgent: bool = False) -> AsyncIterator[None]:
        """Holds a place while the block runs. Raises `Unavailable` if none becomes free in time.

        Urgent work goes first. If both kinds wait, they alternate, so that neither starves.
        """
        place: _Place = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._other).join(organisation_id, place)
        self._give()
        try:
            await self._wait(place)
            yield
        finally:
            # It may have been granted just as the wait timed out.
            if place.done() and not place.cancelled():
                self._take_back(organisation_id)
            else:
                place.cancel()

    async def _wait(self, place: _Place) -> None:
        if place.done():
            return
        try:
            async with asyncio.timeout(self._patience_s):
                await asyncio.shield(place)
        except TimeoutError:
            if not place.done():
                raise Unavailable("the database is busy: try again") from None

    def _give(self) -> None:
        while self._free:
            lines = (self._other, self._urgent) if self._last_was_urgent else (self._urgent, self._other)
            for line in lines:
                if (place := line.next(self._may_have)) is not None:
                    break
            else:
                return
            organisation_id, future = place
            self._last_was_urgent = line is self._urgent
            self._free -= 1
            self._held[organisation_id] += 1
            future.set_result(None)

    def _may_have(self, organisation_id: str) -> bool:
        return self._held[organisation_id] < self._share

    def _take_back(self, organisation_id: str) -> None:
        self._free += 1
        self._held[organisation_id] -= 1
        if not self._held[organisation_id]:
            del self._held[organisation_id]
        self._give()


class _Line:
    """The waiting requests by organisation; the most recently served one is last."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[_Place]] = OrderedDict()

    def join(self, organisation_id: str, place: _Place) -> None:
        self._waiting.setdefault(organisation_id, deque()).append(place)

    def next(self, may_have: Callable[[str], bool]) -> tuple[str, _Place] | None:
        """Removes and returns the next request; None if no waiting request may have a place."""
        for organisation_id in list(self._waiting):
            places = self._waiting[organisation_id]
            while places and places[0].done():  # no one waits for it any longer
                places.popleft()
            if places and may_have(organisation_id):
                self._waiting.move_to_end(organisation_id)
                place = places.popleft()
                if not places:
                    del self._waiting[organisation_id]
                return organisation_id, place
            if not places:
                del self._waiting[organisation_id]
        return None
