"""How many requests of one organisation run at the same time."""

from collections import Counter
from collections.abc import Callable

from xtrace_server.errors import Overloaded


class InFlight:
    """Counts the requests of each organisation from its authentication to the end of the answer."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: Counter[str] = Counter()

    def enter(self, organisation_id: str) -> Callable[[], None]:
        """Counts a request, and returns what to call once at its end. Raises `Overloaded`."""
        if self._running[organisation_id] >= self._most:
            raise Overloaded(f"the organisation already has {self._most} requests in flight (max_requests_each)")
        self._running[organisation_id] += 1

        def leave() -> None:
            self._running[organisation_id] -= 1
            if not self._running[organisation_id]:
                del self._running[organisation_id]

        return leave
