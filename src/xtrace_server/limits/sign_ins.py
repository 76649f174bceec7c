"""Limits failed sign-ins per address and minute.

A key has 238 bits of randomness, so guessing is hopeless at any rate; the limit keeps guesses cheap for the server.
"""

import math
from ipaddress import IPv6Address, ip_address
from typing import Final

from xtrace_server.errors import RateLimited
from xtrace_server.limits.rates import Rates

WINDOW_S: Final = 60
_IPV6_SHARED_BITS: Final = 64
"""The network prefix of an IPv6 address; the host chooses the rest."""


class SignIns:
    """Counts failed sign-ins by their address."""

    def __init__(self, most: int, rates: Rates) -> None:
        """`most` is the maximum number of failures per minute."""
        self._most = most
        self._rates = rates

    async def check(self, address: str) -> None:
        """Raises `RateLimited` for an address from which too many sign-ins have failed, and `Unavailable`."""
        await self._look(address, count=False)

    async def fail(self, address: str) -> None:
        """Counts a failed sign-in. Raises what `check` raises."""
        await self._look(address, count=True)

    async def _look(self, address: str, *, count: bool) -> None:
        key = f"sign-in {_network(address)}"
        if missing_s := await self._rates.hit_for_certain(key, self._most, WINDOW_S, count=count):
            wait_s = max(1, math.ceil(missing_s))
            raise RateLimited(
                f"{self._most} sign-ins from your address failed within a minute: wait {wait_s} s", wait_s
            )


def _network(address: str) -> str:
    """Returns what counts as one address: the network of an IPv6 address, and one name for everything invalid."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(int(parsed) >> 128 - _IPV6_SHARED_BITS)
    return str(parsed)
