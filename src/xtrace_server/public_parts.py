"""What the public part of a stored context says about its strength, as far as a server can tell."""

import asyncio
from typing import Any, Final

import msgspec

from xtrace_core.schemes.registry import SchemeType
from xtrace_server.storage import contexts
from xtrace_server.storage.contexts import PublicText
from xtrace_server.storage.database import Connection

MIN_MODULUS_BITS: Final = 2048
"""112-bit security, by NIST SP 800-57."""
MIN_ALPHA_LEN: Final = 448
"""Bits of both noise groups together; shorter ones are found by a search."""
_MAX_DIGITS: Final = 4000
_MAX_KNOWN: Final = 200_000
"""How many contexts are remembered; then it begins again."""


class Weaknesses:
    """Which contexts are weak. A public part never changes, so each one is looked at once."""

    def __init__(self) -> None:
        self._known: dict[int, bool] = {}

    async def find(self, connection: Connection, organisation_id: str) -> list[int]:
        """Returns the keys of the organisation's weak contexts, in the order in which they were first saved."""
        pks = await contexts.list_pks(connection, organisation_id)
        unknown = [pk for pk in pks if pk not in self._known]
        if len(self._known) + len(unknown) > _MAX_KNOWN:
            self._known.clear()
            unknown = pks
        async for step in contexts.public_texts(connection, unknown):
            self._known |= await asyncio.to_thread(_looked_at, step)
        return [pk for pk in pks if self._known.get(pk)]


def _looked_at(step: list[PublicText]) -> dict[int, bool]:
    return {one.pk: bool(weakness(one.type, modulus_bits(one.public_key), json_object(one.config))) for one in step}


def weakness(type_: str, bits: int | None, config: dict[str, Any]) -> str:
    """Returns what is weak about a public part; empty if nothing is known."""
    if type_ not in (SchemeType.PAILLIER, SchemeType.PAILLIER_LOOKUP):
        return ""
    if bits is not None and bits < MIN_MODULUS_BITS:
        return f"its modulus has {bits:,} bits, below {MIN_MODULUS_BITS:,}"
    alpha_len = number(config.get("alpha_len"))
    if type_ == SchemeType.PAILLIER_LOOKUP and alpha_len is not None and alpha_len < MIN_ALPHA_LEN:
        return f"its noise groups have {alpha_len:,} bits, below {MIN_ALPHA_LEN:,}"
    return ""


def modulus_bits(public_key: str) -> int | None:
    """Returns the length of the modulus in a public key; None if it does not have one in a known form."""
    n = json_object(public_key).get("n")
    if isinstance(n, str) and n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS:
        return int(n).bit_length()
    return n.bit_length() if isinstance(n, int) and not isinstance(n, bool) else None


def number(value: Any) -> int | None:
    """Returns a value if it is a small natural number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def json_object(text: str) -> dict[str, Any]:
    """Returns the JSON object in a text of a client; empty for anything else."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
