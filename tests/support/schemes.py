"""The schemes that suites run over, with keys that are small enough for tests."""

from typing import Final

from xtrace_sdk.x_vec.schemes.registry import SCHEMES as REGISTERED
from xtrace_sdk.x_vec.schemes.registry import has_parameter

SCHEMES: Final = tuple(REGISTERED)


def key_len(scheme: str, bits: int = 256) -> int | None:
    """A key length of so many bits; None for a scheme without primes."""
    return bits if has_parameter(scheme, "key_len") else None
