"""Limits how often a key may be used, with a sliding window for each.

A wrong key is not counted: it costs only a look-up by hash, and remembering every wrong key would let an attacker fill
the memory.
"""

import math

from limits import parse_many

from xtrace_server.errors import RateLimited
from xtrace_server.limits.rates import Rates


class RateLimit:
    """Raises `RateLimited` for a key that is used too often."""

    def __init__(self, rate: str | None, rates: Rates) -> None:
        """`rate` is a setting such as `50/second; 1000/minute`; None allows everything."""
        self._limits = parse_many(rate) if rate else []
        self._rates = rates

    async def count(self, key_hash: str) -> None:
        """Counts one use of the key."""
        for limit in self._limits:
            if missing_s := await self._rates.hit(key_hash, limit.amount, limit.get_expiry()):
                wait_s = max(1, math.ceil(missing_s))
                raise RateLimited(f"the key exceeds the rate {limit} (rate_limit): wait {wait_s} s", wait_s)
