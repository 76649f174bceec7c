"""Counts uses together with others: the workers of this server, or all servers with the same store."""

from xtrace_server.errors import Unavailable
from xtrace_server.limits.rate_store import RateStore, StoreUnreachable
from xtrace_server.limits.shared_rates import SharedRates


class Rates:
    """Counts uses of keys: in the store, if set, else among the workers."""

    def __init__(self, here: SharedRates, store: RateStore | None = None) -> None:
        self._here = here
        self._store = store

    async def hit(self, key: str, amount: int, seconds: int) -> float:
        """As `SharedRates.hit`. While the store does not answer, this server counts for itself."""
        if self._store is not None:
            try:
                return await self._store.hit(key, amount, seconds)
            except StoreUnreachable:
                pass
        return self._here.hit(key, amount, seconds)

    async def hit_for_certain(self, key: str, amount: int, seconds: int, *, count: bool = True) -> float:
        """The same, for what must always be counted: raises `Unavailable` while the store does not answer."""
        if self._store is None:
            return self._here.hit(key, amount, seconds, count=count)
        try:
            return await self._store.hit(key, amount, seconds, count=count)
        except StoreUnreachable:
            raise Unavailable("the store that counts attempts does not answer (rate_store): try again later") from None
