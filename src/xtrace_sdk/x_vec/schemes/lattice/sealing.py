"""The body and the hints of a block: a function of its nonce and its vectors, whose secret the nonce determines."""

from typing import Final

from xtrace_core.lattice.layout import pack
from xtrace_core.lattice.numbers import fractions, rounded
from xtrace_core.lattice.parameters import BASE, HINT_BITS, ROW_SCALE
from xtrace_core.lattice.ring import ring
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.schemes.lattice.block_keys import BlockKeys

# A sum of four signs is even, so half of the scale makes a multiple of the scale, up to one that all sums share.
_WEIGHTS: Final = (
    ROW_SCALE // 2,
    ROW_SCALE // 2 * BASE,
    ROW_SCALE // 2 * BASE**2,
    ROW_SCALE // 2 * BASE**3,
)


def sealed(keys: BlockKeys, nonce: bytes, bits: Bits) -> tuple[bytes, bytes]:
    """Returns `(hints, body)` of the block with this nonce and these vectors."""
    secret = keys.secret("s", nonce)
    hints, body = [], []
    for slab, noisy in enumerate(keys.noisy("e", nonce, bits, _WEIGHTS)):
        tiles, sums = ring.masked(
            keys.matrices.rows[slab], keys.matrices.queries[slab], secret, noisy, sums_of_noisy=False
        )
        hints.append(pack(rounded(fractions(sums), HINT_BITS), HINT_BITS))
        body.append(tiles)
    return b"".join(hints), b"".join(body)
