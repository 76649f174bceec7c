"""Limits concurrent requests: their number for each organisation, and their memory together."""

from collections import Counter
from contextlib import ExitStack
from typing import Final, Literal, TypeAlias, get_args

from xtrace_server.errors import Overloaded
from xtrace_server.limits.shares import Shares

PATIENCE_S: Final = 30.0
"""The maximum time for which a request waits for memory."""

Part: TypeAlias = Literal["bodies", "answers", "keys"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


class InFlight:
    """Counts the requests of each organisation from its authentication to the end of the answer."""

    def __init__(self, most: int, memory_bytes: int, patience_s: float = PATIENCE_S) -> None:
        """`most` limits the requests of one organisation, and `memory_bytes` the memory of all."""
        self._most = most
        self._running: Counter[str] = Counter()
        self._memory = Shares(memory_bytes, patience_s)
        self._parts: Counter[Part] = Counter()

    def enter(self, organisation_id: str) -> "RunningRequest":
        """Counts a request until it ends. Raises `Overloaded`."""
        if self._running[organisation_id] >= self._most:
            raise Overloaded(f"the organisation already has {self._most} requests in flight (max_requests_each)")
        self._running[organisation_id] += 1
        return RunningRequest(self._running, self._memory, self._parts, organisation_id)

    def taken_bytes(self, part: Part) -> int:
        """Returns the memory that this part of all requests uses."""
        return self._parts[part]


class RunningRequest:
    """One request, and its reserved memory."""

    def __init__(self, running: Counter[str], memory: Shares, parts: Counter[Part], organisation_id: str) -> None:
        self._running = running
        self._memory = memory
        self._all_parts = parts
        self._organisation_id = organisation_id
        self._parts: Counter[Part] = Counter()
        self.held = ExitStack()
        """Closed when the request ends, however it ends."""

    async def take(self, part: Part, size: int) -> None:
        """Reserves memory (bytes) as soon as it is free. Raises `Overloaded` if that takes too long."""
        await self._memory.take(self._organisation_id, size)
        self._note(part, size)

    def try_take(self, part: Part, size: int) -> bool:
        """Reserves memory (bytes) if it is free; returns whether it was."""
        taken = self._memory.try_take(self._organisation_id, size)
        if taken:
            self._note(part, size)
        return taken

    def reserve_keys(self, size: int) -> None:
        """Reserves memory (bytes) for the keys of a filter's matches. Raises `Overloaded` if it is not free.

        It does not wait, and takes precedence over requests that wait, because it has an open transaction.
        """
        if not self._memory.try_take(self._organisation_id, size, first=True):
            raise Overloaded(
                "the filter matches more chunks than there is free memory for (memory_bytes): give it narrower "
                "conditions, or try again later"
            )
        self._note("keys", size)

    def leave(self) -> None:
        """Ends the request and frees its memory; call it once."""
        self.held.close()
        self._all_parts.subtract(self._parts)
        self._memory.give_back(self._organisation_id, self._parts.total())
        self._running[self._organisation_id] -= 1
        if not self._running[self._organisation_id]:
            del self._running[self._organisation_id]

    def _note(self, part: Part, size: int) -> None:
        self._parts[part] += size
        self._all_parts[part] += size
