"""Counts what this server can see of an organisation, and describes the public part of its contexts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xtrace_core.schemes.registry import SchemeType
from xtrace_core.wire import TAGS
from xtrace_server.auth.guard import Actor
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts as stored
from xtrace_server.storage import summaries
from xtrace_server.storage.contexts import PublicPart, Use

MIN_MODULUS_BITS: Final = 2048
"""112-bit security, by NIST SP 800-57."""
STRONG_MODULUS_BITS: Final = 3072
MIN_ALPHA_LEN: Final = 448
"""The bits of both noise groups together; shorter ones can be found by a search."""
_PROVIDERS: Final = {"passphrase": "passphrase", "aws_kms": "AWS KMS", "key_file": "key file"}
_SCHEMES: Final = {SchemeType.PAILLIER: "Paillier", SchemeType.PAILLIER_LOOKUP: "Paillier, lookup"}
_MAX_DIGITS: Final = 4000
_MAX_USES: Final = 1000
_LOOKED_AT: Final = 50
"""The number of bindings whose metadata is inspected: those of the largest knowledge bases."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """The public part of a stored context."""

    id: str
    scheme: str
    modulus_bits: int | None
    dimensions: int | None
    weakness: str
    """The weaknesses of its public part; empty if none is known."""
    provider: str | None
    """What protects the secrets stored here, in words; None if none are stored."""
    can_be_guessed: bool
    private: list[str]
    """The metadata fields of which the server has only keyed hashes."""
    uses: list[Use]
    created_at: str
    is_retired: bool

    @property
    def security_bits(self) -> int | None:
        """The security of the modulus, in bits."""
        if self.modulus_bits is None or self.modulus_bits < MIN_MODULUS_BITS:
            return None
        return 128 if self.modulus_bits >= STRONG_MODULUS_BITS else 112


@dataclass(frozen=True, slots=True)
class ReadableField:
    """A metadata field of a knowledge base's chunks."""

    kb_id: str
    kb_name: str
    name: str
    is_private: bool


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the server can see, besides the sums that organisations get anyway."""

    contexts: list[StoredContext]
    fields: list[ReadableField]
    looked_at: int
    """The number of pairs of knowledge base and context that the fields cover, largest first."""
    pairs: int
    descriptions: int
    context_names: int


async def contexts(state: ServerState, actor: Actor) -> list[StoredContext]:
    """Returns the organisation's contexts, in the order in which they were first saved."""
    async with state.database.read(actor.organisation_id) as connection:
        found = await stored.list_public(connection, actor.organisation_id)
        uses = await stored.uses(connection, actor.organisation_id, _MAX_USES)
    return _shown(found, uses)


async def exposure(state: ServerState, actor: Actor) -> Exposure:
    """Counts what the server can see."""
    async with state.database.read(actor.organisation_id) as connection:
        found = await stored.list_public(connection, actor.organisation_id)
        uses = await stored.uses(connection, actor.organisation_id, _MAX_USES)
        looked_at = uses[:_LOOKED_AT]
        used = await summaries.fields_in_use(connection, [use.binding_pk for use in looked_at])
        descriptions, names = await summaries.count_names(connection, actor.organisation_id)
    private = {one.pk: _private(_object(one.config)) for one in found}
    fields = [
        ReadableField(use.kb_id, use.kb_name, name, name in private.get(use.context_pk, []))
        for use in looked_at
        for name in used[use.binding_pk]
    ]
    return Exposure(_shown(found, uses), fields, len(looked_at), len(uses), descriptions, names)


def _shown(found: Sequence[PublicPart], uses: Sequence[Use]) -> list[StoredContext]:
    by_context: dict[int, list[Use]] = {}
    for use in uses:
        by_context.setdefault(use.context_pk, []).append(use)
    return [_context(one, by_context.get(one.pk, [])) for one in found]


def _context(one: PublicPart, uses: list[Use]) -> StoredContext:
    config = _object(one.config)
    is_known = one.type in _SCHEMES
    bits = _modulus_bits(one.public_key) if is_known else None
    provider = None if one.key_provider is None else _PROVIDERS.get(one.key_provider, one.key_provider[:40])
    return StoredContext(
        id=one.id,
        scheme=_SCHEMES.get(SchemeType(one.type), one.type) if is_known else one.type[:40],
        modulus_bits=bits,
        dimensions=_number(config.get("embed_len")),
        weakness=_weakness(one.type, bits, config),
        provider=provider,
        can_be_guessed=one.key_provider == "passphrase",
        private=_private(config),
        uses=uses,
        created_at=one.created_at,
        is_retired=one.is_retired,
    )


def _weakness(type_: str, bits: int | None, config: dict[str, Any]) -> str:
    if bits is not None and bits < MIN_MODULUS_BITS:
        return f"its modulus has {bits:,} bits, below {MIN_MODULUS_BITS:,}"
    alpha_len = _number(config.get("alpha_len"))
    if type_ == SchemeType.PAILLIER_LOOKUP and alpha_len is not None and alpha_len < MIN_ALPHA_LEN:
        return f"its noise groups have {alpha_len:,} bits, below {MIN_ALPHA_LEN:,}"
    return ""


def _modulus_bits(public_key: str) -> int | None:
    n = _object(public_key).get("n")
    if isinstance(n, str) and n.isascii() and n.isdigit() and len(n) <= _MAX_DIGITS:
        return int(n).bit_length()
    return n.bit_length() if isinstance(n, int) and not isinstance(n, bool) else None


def _private(config: dict[str, Any]) -> list[str]:
    named = config.get("private_metadata")
    return [name for name in (*TAGS, "facets") if name in named] if isinstance(named, list) else []


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None


def _object(text: str) -> dict[str, Any]:
    """Returns the JSON object in a client's text; empty for anything else."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
