"""How often signing in may fail: for each address in a minute, in the memory of this process.

A key has 238 bits of randomness, so guessing is hopeless at any rate; the limit keeps guesses from costing anything.
"""

import time
from ipaddress import IPv6Address, ip_address
from typing import Final

from xtrace_server.errors import RateLimited

WINDOW_S: Final = 60.0
_MAX_ADDRESSES: Final = 10_000
_IPV6_SHARED_BITS: Final = 64
"""What lies behind this in an IPv6 address is chosen by its host."""


class SignIns:
    """Counts failed sign-ins by the address that they come from."""

    def __init__(self, most: int) -> None:
        """`most` is how many may fail in a minute."""
        self._most = most
        self._failed: dict[str, tuple[float, int]] = {}
        """When the minute of an address began, and how many have failed in it; the oldest first."""

    def check(self, address: str) -> None:
        """Raises `RateLimited` for an address from which too many sign-ins have failed."""
        began, failed = self._of(address)
        if failed >= self._most:
            wait_s = max(1, int(began + WINDOW_S - time.monotonic()) + 1)
            raise RateLimited(f"{failed} sign-ins from your address failed within a minute: wait {wait_s} s", wait_s)

    def fail(self, address: str) -> int:
        """Counts a failed sign-in, and returns how many more may fail in this minute."""
        began, failed = self._of(address)
        self._failed[_network(address)] = (began, failed + 1)
        if len(self._failed) > _MAX_ADDRESSES:
            del self._failed[next(iter(self._failed))]
        return max(self._most - failed - 1, 0)

    def _of(self, address: str) -> tuple[float, int]:
        moment = time.monotonic()
        began, failed = self._failed.get(_network(address), (moment, 0))
        if moment - began >= WINDOW_S:
            self._failed.pop(_network(address), None)
            return moment, 0
        return began, failed


def _network(address: str) -> str:
    """What counts as one address: of IPv6 the network, of what is not an address a name for all such."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(int(parsed) >> 128 - _IPV6_SHARED_BITS)
    return str(parsed)
