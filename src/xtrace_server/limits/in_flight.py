"""The requests that run at the same time: how many each organisation has, and the memory that they take together."""

from collections import Counter
from contextlib import ExitStack
from typing import Final, Literal, TypeAlias, get_args

from xtrace_server.errors import Overloaded
from xtrace_server.limits.shares import Shares

PATIENCE_S: Final = 30.0
"""How long a request waits for memory."""

Part: TypeAlias = Literal["bodies", "answers", "keys"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)


class InFlight:
    """Counts the requests of each organisation from its authentication to the end of the answer."""

    def __init__(self, most: int, memory_bytes: int, patience_s: float = PATIENCE_S) -> None:
        """`most` is the number of requests of one organisation, `memory_bytes` what those of all may take."""
        self._most = most
        self._running: Counter[str] = Counter()
        self._memory = Shares(memory_bytes, patience_s)
        self._parts: Counter[Part] = Counter()

    def enter(self, organisation_id: str) -> "RunningRequest":
        """Counts a request until it leaves. Raises `Overloaded`."""
        if self._running[organisation_id] >= self._most:
            raise Overloaded(f"the organisation already has {self._most} requests in flight (max_requests_each)")
        self._running[organisation_id] += 1
        return RunningRequest(self._running, self._memory, self._parts, organisation_id)

    def taken_bytes(self, part: Part) -> int:
        """Returns how much memory is taken for a part of all requests."""
        return self._parts[part]


class RunningRequest:
    """One request, and the memory that it has taken."""

    def __init__(self, running: Counter[str], memory: Shares, parts: Counter[Part], organisation_id: str) -> None:
        self._running = running
        self._memory = memory
        self._all_parts = parts
        self._organisation_id = organisation_id
        self._parts: Counter[Part] = Counter()
        self.held = ExitStack()
        """What is closed when the request ends, however it ends."""

    async def take(self, part: Part, size: int) -> None:
        """Takes memory (bytes), when it becomes free. Raises `Overloaded` if that takes too long."""
        await self._memory.take(self._organisation_id, size)
        self._note(part, size)

    def try_take(self, part: Part, size: int) -> bool:
        """Takes memory (bytes) if it is free; returns whether it was."""
        taken = self._memory.try_take(self._organisation_id, size)
        if taken:
            self._note(part, size)
        return taken

    def reserve_keys(self, size: int) -> None:
        """Takes memory (bytes) for the keys of what a filter matches. Raises `Overloaded` if it is not free.

        It does not wait, and goes before requests that do: it has a transaction open.
        """
        if not self._memory.try_take(self._organisation_id, size, first=True):
            raise Overloaded(
                "the filter matches more chunks than there is free memory for (memory_bytes): give it narrower "
                "conditions, or try again later"
            )
        self._note("keys", size)

    def leave(self) -> None:
        """Ends the request, and returns what it has taken; to be called once."""
        self.held.close()
        self._all_parts.subtract(self._parts)
        self._memory.give_back(self._organisation_id, self._parts.total())
        self._running[self._organisation_id] -= 1
        if not self._running[self._organisation_id]:
            del self._running[self._organisation_id]

    def _note(self, part: Part, size: int) -> None:
        self._parts[part] += size
        self._all_parts[part] += size
