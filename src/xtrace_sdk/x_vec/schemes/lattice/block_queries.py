"""Queries over blocks: what is sent, and how the one answer to it is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from xtrace_core.lattice.interface import Elements, QueryValues, UnreadBlock
from xtrace_core.lattice.numbers import fractions
from xtrace_core.lattice.parameters import BASE, PRIMES, QUERY_SCALE
from xtrace_core.lattice.ring import ring
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.schemes.lattice.block_keys import BlockKeys

_WEIGHTS: Final = (
    -QUERY_SCALE * BASE**3,
    -QUERY_SCALE * BASE**2,
    -QUERY_SCALE * BASE,
    -QUERY_SCALE,
)
_PRIME: Final = PRIMES[0]


@dataclass(frozen=True, slots=True, repr=False)
class QuerySecret(Secretive):
    """What reads the answers to one query. Values modulo the first prime."""

    secret: NDArray[np.uint32]
    """`(RANK, DEGREE)`"""
    kept: NDArray[np.uint32]
    """For each slab, `(slabs, RANK, DEGREE)`."""


def encrypted(keys: BlockKeys, seed: bytes, bits: Bits) -> tuple[bytes, QuerySecret]:
    """Returns what is sent for one vector, `(1, embed_len)`, and what reads the answer."""
    secret = keys.secret("qs", seed)
    sent, kept = [], []
    for slab, noisy in enumerate(keys.noisy("qe", seed, bits, _WEIGHTS)):
        tiles, sums = ring.masked(
            keys.matrices.queries[slab], keys.matrices.rows[slab], secret, noisy, sums_of_noisy=True
        )
        sent.append(tiles)
        kept.append(sums)
    values = ring.forward(_to_first_prime(np.stack(kept)))
    return b"".join(sent), QuerySecret(np.ascontiguousarray(secret[:, 0]), values[:, :, 0])


def _to_first_prime(coefficients: Elements) -> Elements:
    """Returns coefficients modulo both primes, scaled from Q to the first prime and rounded."""
    scaled = ((fractions(coefficients) >> np.uint64(32)) * np.uint64(_PRIME) + np.uint64(1 << 31)) >> np.uint64(32)
    return scaled.astype(np.uint32)[..., None, :]


class LatticeBlockQueries(Secretive):
    """The queries of one request, and the secrets that read one answer to them."""

    __slots__ = ("_embed_len", "_unread", "sent")

    def __init__(self, embed_len: int, queries: Sequence[tuple[bytes, QuerySecret]]) -> None:
        self._embed_len = embed_len
        self.sent = [sent for sent, _ in queries]
        self._unread = [[secret for _, secret in queries]]

    def __len__(self) -> int:
        return len(self.sent)

    def read(self, answers: Sequence[BlockAnswer]) -> NDArray[np.uint16]:
        """Returns the distances of the slots of all answers, one answer after another, `(queries, slots)`.

        Works once: the secrets serve one answer. Raises `InvalidAnswer` for values that an honest service does not
        compute, `RuntimeError` when called again.
        """
        secrets = self._used()
        if len({answer.block.header for answer in answers}) < len(answers):
            raise InvalidAnswer("the server answered twice for one block")
        return distances(self._embed_len, secrets, answers)

    def read_each(self, answers: Sequence[BlockAnswer]) -> list[NDArray[np.uint16] | None]:
        """Like `read`, but returns None for each answer with values that an honest service does not compute."""
        secrets = self._used()
        return [self._distances_or_none(secrets, answer) for answer in answers]

    def _used(self) -> list[QuerySecret]:
        # Two answers to one query would show how its noise moves with what the service changed between them.
        try:
            return self._unread.pop()
        except IndexError:
            raise RuntimeError("the queries have been read already; encrypt new ones for each request") from None

    def _distances_or_none(self, secrets: Sequence[QuerySecret], answer: BlockAnswer) -> NDArray[np.uint16] | None:
        try:
            return distances(self._embed_len, secrets, [answer])
        except InvalidAnswer:
            return None


def distances(embed_len: int, secrets: Sequence[QuerySecret], answers: Sequence[BlockAnswer]) -> NDArray[np.uint16]:
    """Returns the distances of the slots of all answers, `(queries, slots)`.

    Raises `InvalidAnswer` for values that no honest service computes.
    """
    for one in answers:
        one.check_slots()
    unread = [UnreadBlock(one.block.secret, one.block.hints, one.slots, one.values) for one in answers]
    queries = QueryValues(np.stack([one.secret for one in secrets]), np.stack([one.kept for one in secrets]))
    try:
        found, valid = ring.read(embed_len, queries, unread)
    except ValueError as error:
        raise InvalidAnswer(f"the server's answer cannot be read: {error}; search again") from None
    if not valid.all():
        raise InvalidAnswer(
            "the server's values for a block are not those of its vectors: the server or the network changed them, or "
            "the server computed incorrectly. If this happens again, do not send further queries to this server"
        )
    return found
