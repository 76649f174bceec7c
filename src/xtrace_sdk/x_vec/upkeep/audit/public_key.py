"""The public key of a saved context, of ours or of another client, as numbers."""

import json
import sys
from dataclasses import dataclass
from typing import Any, TypeGuard

from xtrace_core.schemes.paillier import MAX_MODULUS_BITS
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.errors import InvalidContext
from xtrace_sdk.limits import MAX_KEY_TEXT
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, json_object

_MAX_LENGTH = 1 << 16
"""Bits that a configuration may claim for a key, which is more than any has."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What everyone can know of a key; nothing is checked yet but that these are numbers."""

    type: str
    n: int
    g: int | None
    """None for 1 + n, which native contexts do not write down."""
    n_squared: int | None
    g_n: int | None
    key_len: int
    """The length of each prime in bits, as the configuration says."""
    alpha_len: int | None
    """The bits of both subgroup orders together, as the configuration says."""

    @classmethod
    def read(cls, public: PublicParts) -> "PublicKey":
        """The key of a context's public parts. Raises `InvalidContext` if they hold none that can be looked at."""
        pk, config = _numbers(public.pk, "pk"), json_object(public.config, "config")
        n, key_len, alpha_len = _integer(pk.get("n")), config.get("key_len"), config.get("alpha_len")
        if n is None or not 0 < n.bit_length() <= MAX_MODULUS_BITS:
            raise InvalidContext(f"the context's pk does not have a modulus n of at most {MAX_MODULUS_BITS} bits")
        if not _is_length(key_len) or not (alpha_len is None or _is_length(alpha_len)):
            raise InvalidContext(
                "the context's config does not have a key_len, or an alpha_len that is not a number of bits"
            )
        return cls(
            type=public.type,
            n=n,
            g=_integer(pk.get("g")),
            n_squared=_integer(pk.get("n_squared")),
            g_n=_integer(pk.get("g_n")),
            key_len=key_len,
            alpha_len=alpha_len,
        )

    @property
    def is_plain(self) -> bool:
        """Whether g = 1 + n, so that a ciphertext modulo n no longer has a message."""
        return self.g is None or self.g == 1 + self.n

    @property
    def noise_has_a_subgroup(self) -> bool:
        """Whether the scheme takes its noise from a small group with an odd order."""
        return self.type == SchemeType.PAILLIER_LOOKUP


def _numbers(text: str, what: str) -> dict[str, Any]:
    # Python's own parser: these integers are larger than others take. Its limit on digits is one for attackers' inputs.
    try:
        value = json.loads(text) if len(text) <= MAX_KEY_TEXT else None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidContext(f"the context's {what} is not a JSON object, or has an integer of too many digits")
    return value


def _is_length(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MAX_LENGTH


def _integer(value: Any) -> int | None:
    """The integer that is written as one or as its digits; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > sys.get_int_max_str_digits():
        return None
    try:
        return int(value)
    except ValueError:
        return None
