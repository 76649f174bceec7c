"""The public key of a saved context, native or from another client, as numbers."""

import json
import sys
from dataclasses import dataclass
from typing import Any, TypeGuard

from xtrace_core.schemes.paillier import MAX_MODULUS_BITS
from xtrace_core.schemes.registry import SchemeType
from xtrace_sdk.errors import InvalidArgument, InvalidContext
from xtrace_sdk.limits import MAX_KEY_TEXT
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, json_object

_MAX_LENGTH = 1 << 16
"""The maximum number of bits that a configuration may claim for a key, which is more than any has."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public values of a key; so far, they are only known to be numbers."""

    type: str
    n: int
    g: int | None
    """None for 1 + n, which native contexts do not store."""
    n_squared: int | None
    g_n: int | None
    key_len: int
    """The length of each prime in bits, according to the configuration."""
    alpha_len: int | None
    """The bits of both subgroup orders together, according to the configuration."""

    @classmethod
    def read(cls, public: PublicParts) -> "PublicKey":
        """Returns the key in a context's public parts. Raises `InvalidContext` if they do not contain a valid one, and
        `InvalidArgument` for a scheme that has no public key."""
        if public.type == SchemeType.LATTICE:
            raise InvalidArgument(
                "the context's scheme is lattice, which has no public key to attack: audit contexts of Paillier schemes"
            )
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
    # Python's parser, because these integers are too large for others. Its limit on digits guards against hostile
    # input.
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
    """Returns the integer that is written as a number or as a string of digits; None if there is none."""
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > sys.get_int_max_str_digits():
        return None
    try:
        return int(value)
    except ValueError:
        return None
