"""Counts what this server can see of an organisation, and describes the public part of its contexts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from xtrace_core.schemes.registry import SchemeType
from xtrace_core.wire import TAGS
from xtrace_server.auth.guard import Actor
from xtrace_server.operations.paging import Listed, Start, page_of, replace_rows
from xtrace_server.public_parts import MIN_MODULUS_BITS, json_object, modulus_bits, number, weakness
from xtrace_server.state import ServerState
from xtrace_server.storage import contexts as stored
from xtrace_server.storage import summaries
from xtrace_server.storage.contexts import PublicPart, Use
from xtrace_server.storage.database import Connection

PAGE_CONTEXTS = 25
STRONG_MODULUS_BITS: Final = 3072
_PROVIDERS: Final = {"passphrase": "passphrase", "aws_kms": "AWS KMS", "key_file": "key file"}
_SCHEMES: Final = {
    SchemeType.PAILLIER: "Paillier",
    SchemeType.PAILLIER_LOOKUP: "Paillier, lookup",
    SchemeType.LATTICE: "Lattice",
}
_SHOWN_USES: Final = 3
_SHOWN_WEAK: Final = 5
_LOOKED_AT: Final = 50
"""The number of bindings whose metadata is inspected: those of the largest knowledge bases."""


@dataclass(frozen=True, slots=True)
class StoredContext:
    """The public part of a stored context."""

    id: str
    scheme: str
    has_modulus: bool
    """False for a scheme that needs none; True for an unknown scheme."""
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
    """The knowledge bases under it, the largest ones alone."""
    used_by: int
    """How many knowledge bases are under it."""
    created_at: str
    is_retired: bool

    @property
    def security_bits(self) -> int | None:
        """The security of the modulus, in bits."""
        if self.modulus_bits is None or self.modulus_bits < MIN_MODULUS_BITS:
            return None
        return 128 if self.modulus_bits >= STRONG_MODULUS_BITS else 112


@dataclass(frozen=True, slots=True)
class Strength:
    """How an organisation's contexts can be attacked, in numbers; `examples` are some of the weak ones."""

    contexts: int
    saved: int
    """Contexts whose encrypted secrets are stored here."""
    guessable: int
    """Contexts whose encrypted secrets are protected by a passphrase."""
    weak: int
    examples: list[StoredContext]


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

    strength: Strength
    fields: list[ReadableField]
    looked_at: int
    """The number of pairs of knowledge base and context that the fields cover, largest first."""
    pairs: int
    descriptions: int
    context_names: int


async def list_page(state: ServerState, actor: Actor, start: Start | None = None) -> Listed[StoredContext]:
    """Returns one page of the organisation's contexts, the first saved first; without `start` the first page."""
    async with state.database.read(actor.organisation_id) as connection:
        found = await page_of(connection, stored.listed(actor.organisation_id), start, PAGE_CONTEXTS)
        pks = [one.pk for one in found.rows]
        uses = await stored.largest_uses(connection, pks, _SHOWN_USES)
        counts = await stored.count_uses(connection, pks)
    return replace_rows(found, [_context(one, uses.get(one.pk, []), counts.get(one.pk, 0)) for one in found.rows])


async def strength(state: ServerState, actor: Actor) -> Strength:
    """Counts which of the organisation's contexts can be attacked."""
    async with state.database.read(actor.organisation_id) as connection:
        return await _strength(state, connection, actor.organisation_id)


async def exposure(state: ServerState, actor: Actor) -> Exposure:
    """Counts what the server can see."""
    async with state.database.read(actor.organisation_id) as connection:
        found = await _strength(state, connection, actor.organisation_id)
        pairs = await stored.count_bindings(connection, actor.organisation_id)
        uses = await stored.uses(connection, actor.organisation_id, _LOOKED_AT)
        used = await summaries.fields_in_use(connection, [use.binding_pk for use in uses])
        public = await stored.list_public(connection, {use.context_pk for use in uses})
        descriptions, names = await summaries.count_names(connection, actor.organisation_id)
    private = {one.pk: _private(json_object(one.config)) for one in public}
    return Exposure(found, _fields(uses, used, private), len(uses), pairs, descriptions, names)


async def _strength(state: ServerState, connection: Connection, organisation_id: str) -> Strength:
    counted = await stored.count_saved(connection, organisation_id)
    weak = await state.weaknesses.find(connection, organisation_id)
    examples = [_context(one, [], 0) for one in await stored.list_public(connection, weak[:_SHOWN_WEAK])]
    return Strength(*counted, len(weak), examples)


def _fields(uses: list[Use], used: Mapping[int, list[str]], private: Mapping[int, list[str]]) -> list[ReadableField]:
    return [
        ReadableField(use.kb_id, use.kb_name, name, name in private.get(use.context_pk, []))
        for use in uses
        for name in used[use.binding_pk]
    ]


def _context(one: PublicPart, uses: list[Use], used_by: int) -> StoredContext:
    config = json_object(one.config)
    is_known = one.type in _SCHEMES
    bits = modulus_bits(one.public_key) if is_known else None
    provider = None if one.key_provider is None else _PROVIDERS.get(one.key_provider, one.key_provider[:40])
    return StoredContext(
        id=one.id,
        scheme=_SCHEMES.get(SchemeType(one.type), one.type) if is_known else one.type[:40],
        has_modulus=one.type != SchemeType.LATTICE,
        modulus_bits=bits,
        dimensions=number(config.get("embed_len")),
        weakness=weakness(one.type, bits, config),
        provider=provider,
        can_be_guessed=one.key_provider == "passphrase",
        private=_private(config),
        uses=uses,
        used_by=used_by,
        created_at=one.created_at,
        is_retired=one.is_retired,
    )


def _private(config: dict[str, Any]) -> list[str]:
    named = config.get("private_metadata")
    return [name for name in (*TAGS, "facets") if name in named] if isinstance(named, list) else []
