"""Queries over blocks: what is sent, and how the one answer to it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.header import BlockHeader
from xtrace_core.lattice.interface import Elements
from xtrace_core.lattice.layout import unpack
from xtrace_core.lattice.numbers import fractions
from xtrace_core.lattice.parameters import (
    BASE,
    DEGREE,
    FOLD,
    HINT_BITS,
    PRIMES,
    QUERY_SCALE,
    RANK,
    VALUE_BITS,
    slab_words,
    slabs,
)
from xtrace_core.lattice.ring import ring
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, CheckedBlock
from xtrace_sdk.x_vec.schemes.interface import Bits, Distances
from xtrace_sdk.x_vec.schemes.lattice.block_keys import BlockKeys

_WEIGHTS: Final = (
    -QUERY_SCALE * BASE**3,
    -QUERY_SCALE * BASE**2,
    -QUERY_SCALE * BASE,
    -QUERY_SCALE,
)
_PRIME: Final = PRIMES[0]
_BITS: Final = 34
"""Of the fractions with which distances are computed."""
_FRACTION: Final = np.uint64((1 << _BITS) - 1)
_ELEMENTS_AT_ONCE: Final = 32
"""What is read together: several, because every step has a cost of its own, and few, to stay in the caches."""
_MAX_NOISE: Final = int(0.44 * (1 << _BITS))
"""How far a reading may be from an integer: further away happens once in 2^50 values of an honest service."""


@dataclass(frozen=True, slots=True, repr=False)
class QuerySecret(Secretive):
    """What reads the answers to one query. Values modulo the first prime."""

    secret: Elements
    """`(RANK, 1, DEGREE)`"""
    kept: Elements
    """For each slab, `(slabs, RANK, 1, DEGREE)`."""


def encrypted(keys: BlockKeys, seed: bytes, bits: Bits) -> tuple[bytes, QuerySecret]:
    """Returns what is sent for one vector, `(1, embed_len)`, and what reads the answer."""
    secret = keys.secret("qs", seed)
    sent, kept = [], []
    for slab, message in enumerate(keys.folded(bits, _WEIGHTS)):
        noisy = keys.noise("qe", seed, slab, len(message))
        noisy[:, :1] += message
        tiles, sums = ring.masked(
            keys.matrices.queries[slab], keys.matrices.rows[slab], secret, noisy, sums_of_noisy=True
        )
        sent.append(tiles)
        kept.append(sums)
    return b"".join(sent), QuerySecret(secret[:, :1], ring.forward(_to_first_prime(np.stack(kept))))


def _to_first_prime(coefficients: Elements) -> Elements:
    """Returns coefficients modulo both primes, scaled from Q to the first prime and rounded."""
    scaled = ((fractions(coefficients) >> np.uint64(32)) * np.uint64(_PRIME) + np.uint64(1 << 31)) >> np.uint64(32)
    return scaled.astype(np.uint32)[..., None, :]


class LatticeBlockQueries(Secretive):
    """The queries of one request, and the secrets that read one answer to them."""

    __slots__ = ("_keys", "_unread", "sent")

    def __init__(self, keys: BlockKeys, queries: Sequence[tuple[bytes, QuerySecret]]) -> None:
        self._keys = keys
        self.sent = [sent for sent, _ in queries]
        self._unread = [[secret for _, secret in queries]]

    def __len__(self) -> int:
        return len(self.sent)

    def read(self, answers: Sequence[BlockAnswer]) -> list[Distances]:
        """Returns for each answer the distances `(queries, n)`. Works once: the secrets serve one answer.

        Raises `InvalidAnswer` for values that an honest service does not compute, `RuntimeError` when called again.
        """
        secrets = self._used()
        if len({answer.block.header for answer in answers}) < len(answers):
            raise InvalidAnswer("the server answered twice for one block")
        return distances(self._keys, secrets, answers)

    def read_each(self, answers: Sequence[BlockAnswer]) -> list[Distances | None]:
        """Like `read`, but returns None for each answer with values that an honest service does not compute."""
        secrets = self._used()
        return [self._distances_or_none(secrets, answer) for answer in answers]

    def _used(self) -> list[QuerySecret]:
        # Two answers to one query would show how its noise moves with what the service changed between them.
        try:
            return self._unread.pop()
        except IndexError:
            raise RuntimeError("the queries have been read already; encrypt new ones for each request") from None

    def _distances_or_none(self, secrets: Sequence[QuerySecret], answer: BlockAnswer) -> Distances | None:
        try:
            return distances(self._keys, secrets, [answer])[0]
        except InvalidAnswer:
            return None


def distances(keys: BlockKeys, secrets: Sequence[QuerySecret], answers: Sequence[BlockAnswer]) -> list[Distances]:
    """Returns for each answer the distances `(queries, n)`.

    Raises `InvalidAnswer` for values that no honest service computes.
    """
    for answer in answers:
        _check_shape(answer, len(secrets), keys.embed_len)
    together = max(1, _ELEMENTS_AT_ONCE // (len(secrets) * slabs(keys.embed_len)))
    found: list[Distances] = []
    for first in range(0, len(answers), together):
        part = answers[first : first + together]
        masks = masks_of(keys, secrets, [answer.block for answer in part])
        found += [_unmasked(keys.embed_len, answer, mask) for answer, mask in zip(part, masks, strict=True)]
    return found


def _unmasked(embed_len: int, answer: BlockAnswer, masks: NDArray[np.uint64]) -> Distances:
    found, noise = readings(embed_len, answer, masks)
    in_use = np.array(slab_words(embed_len))[:, None] * FOLD
    in_use[-1] -= in_use.sum() - embed_len
    if (found > in_use).any() or np.abs(noise).max(initial=0) > _MAX_NOISE:
        raise InvalidAnswer(
            "the server's values for a block are not those of its vectors: the server or the network changed them, or "
            "the server computed incorrectly. If this happens again, do not send further queries to this server"
        )
    summed: Distances = found.sum(axis=1)
    return summed


def readings(embed_len: int, answer: BlockAnswer, masks: NDArray[np.uint64]) -> tuple[Distances, NDArray[np.int64]]:
    """Returns `(distances, noise)` of each slab, both `(queries, slabs, n)`; noise in units of 2^-34."""
    values = answer.values.astype(np.uint64) << np.uint64(_BITS - VALUE_BITS)
    fraction = (values - (masks[:, :, answer.slots] << np.uint64(_BITS)) // np.uint64(_PRIME)) & _FRACTION
    positions = np.array(slab_words(embed_len), np.uint64)[:, None] * np.uint64(FOLD)
    # The sum of n signs is n less twice the distance; half a unit more makes rounding down rounding to the nearest.
    shifted = fraction * np.uint64(BASE) + ((positions + np.uint64(1)) << np.uint64(_BITS - 1))
    found = (shifted >> np.uint64(_BITS)).astype(np.int64) % BASE
    return found, (shifted & _FRACTION).astype(np.int64) - (1 << (_BITS - 1))


def _check_shape(answer: BlockAnswer, queries: int, embed_len: int) -> None:
    expected = (queries, slabs(embed_len), len(answer.slots))
    if answer.values.shape != expected:
        shape = answer.values.shape
        raise InvalidAnswer(f"the server's values for a block have the shape {shape}, expected {expected}")
    slots = answer.slots
    if len(slots) and not (slots[0] >= 0 and (np.diff(slots) > 0).all() and slots[-1] < answer.block.count):
        raise InvalidAnswer(f"the server answered for slots that the block does not have: it has {answer.block.count}")


def masks_of(keys: BlockKeys, secrets: Sequence[QuerySecret], blocks: Sequence[CheckedBlock]) -> NDArray[np.uint64]:
    """Returns what hides the values of the blocks, modulo the first prime, `(blocks, queries, slabs, DEGREE)`."""
    own = keys.block_secrets([BlockHeader.parsed(block.header).nonce for block in blocks])[:, None, None]
    hints = _hints([block.hints for block in blocks])[:, None]
    kept, theirs = np.stack([one.kept for one in secrets]), np.stack([one.secret for one in secrets])[:, None]
    # Joined, so that one sum is over both kinds of products.
    shape = (len(blocks), *kept.shape)
    left = np.concatenate([np.broadcast_to(kept, shape), np.broadcast_to(hints, shape)], axis=3)
    right = np.concatenate([np.broadcast_to(own, shape), np.broadcast_to(theirs, shape)], axis=3)
    # Six products of 60 bits fit into 64.
    sums = (left.astype(np.uint64) * right).sum(axis=3) % np.uint64(_PRIME)
    return ring.inverse(sums.astype(np.uint32))[:, :, :, 0].astype(np.uint64)


def _hints(hints: Sequence[bytes]) -> Elements:
    """Returns the values of hints, scaled to the first prime and rounded, `(blocks, slabs, RANK, 1, DEGREE)`."""
    data = b"".join(hints)
    packed = unpack(data, len(data) * 8 // HINT_BITS, HINT_BITS)
    scaled = (packed * np.uint64(_PRIME) + np.uint64(1 << (HINT_BITS - 1))) >> np.uint64(HINT_BITS)
    return ring.forward(scaled.astype(np.uint32).reshape(len(hints), -1, RANK, 1, DEGREE))
