"""Memory shared by organisations.

An organisation never gets more than what is left free for the others (dynamic thresholds: Choudhury and Hahne, IEEE/ACM
Transactions on Networking 6(2), 1998): alone, it can use half of all memory, and the next one half of the rest.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from typing import TypeAlias

from xtrace_server.errors import Overloaded

_Waiting: TypeAlias = tuple[asyncio.Future[None], int]


class Shares:
    """Memory of a fixed size. Requests that do not fit wait; within an organisation, in order of arrival."""

    def __init__(self, size: int, patience_s: float) -> None:
        self._size = size
        self._patience_s = patience_s
        self._taken: Counter[str] = Counter()
        self._taken_by_all = 0
        self._waiting: OrderedDict[str, deque[_Waiting]] = OrderedDict()

    @property
    def taken_bytes(self) -> int:
        """The amount in use."""
        return self._taken_by_all

    async def take(self, organisation_id: str, size: int) -> None:
        """Reserves memory as soon as it is free. Raises `Overloaded` if that takes too long."""
        if self.try_take(organisation_id, size):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(organisation_id, deque()).append((turn, size))
        try:
            async with asyncio.timeout(self._patience_s):
                await turn
        except TimeoutError:
            if turn.cancelled():
                self._admit()
                raise Overloaded(
                    f"no memory became free for the request within {self._patience_s:g} seconds (memory_bytes)"
                ) from None
        except BaseException:
            if turn.cancelled():
                self._admit()
            else:  # granted just as the wait timed out
                self.give_back(organisation_id, size)
            raise

    def try_take(self, organisation_id: str, size: int, *, first: bool = False) -> bool:
        """Reserves memory if it is free and no request of the organisation waits; returns whether it did.

        `first` takes precedence over waiting requests: for a request that holds something they may need.
        """
        if (organisation_id in self._waiting and not first) or not self._fits(organisation_id, size):
            return False
        self._reserve(organisation_id, size)
        return True

    def give_back(self, organisation_id: str, size: int) -> None:
        """Frees reserved memory."""
        self._taken_by_all -= size
        self._taken[organisation_id] -= size
        if not self._taken[organisation_id]:
            del self._taken[organisation_id]
        self._admit()

    def _fits(self, organisation_id: str, size: int) -> bool:
        return self._taken[organisation_id] + size <= self._size - self._taken_by_all - size

    def _reserve(self, organisation_id: str, size: int) -> None:
        self._taken[organisation_id] += size
        self._taken_by_all += size

    def _admit(self) -> None:
        for organisation_id in list(self._waiting):
            waiting = self._waiting[organisation_id]
            while waiting and (waiting[0][0].done() or self._fits(organisation_id, waiting[0][1])):
                turn, size = waiting.popleft()
                if not turn.done():  # otherwise, the wait timed out
                    self._reserve(organisation_id, size)
                    turn.set_result(None)
            if not waiting:
                del self._waiting[organisation_id]
