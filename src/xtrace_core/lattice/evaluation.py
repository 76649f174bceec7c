"""The products of blocks with queries: what the service computes, without a key."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.lattice.layout import from_tiles, slab_parts
from xtrace_core.lattice.parameters import BLOCK_ROWS, VALUE_BITS, slabs
from xtrace_core.lattice.transforms import Elements, fractions, inverse, products, rounded

Values: TypeAlias = NDArray[np.uint16]
"""The values of an answer: shape `(bodies, queries, slabs, BLOCK_ROWS)`, 12 bits each."""


def evaluate(embed_len: int, bodies: Sequence[Buffer], queries: Sequence[Buffer]) -> Values:
    """Returns the values of every body for every query; both have whole words whose residues are reduced."""
    values = np.empty((len(bodies), len(queries), slabs(embed_len), BLOCK_ROWS), np.uint16)
    asked = [[from_tiles(part) for part in slab_parts(embed_len, query)] for query in queries]
    for block, body in enumerate(bodies):
        for slab, part in enumerate(slab_parts(embed_len, body)):
            rows = from_tiles(part)
            for number, query in enumerate(asked):
                values[block, number, slab] = _slab_values(rows, query[slab])
    return values


def _slab_values(rows: Elements, query: Elements) -> NDArray[np.uint64]:
    return rounded(fractions(inverse(products(rows, query, axis=0))), VALUE_BITS)
