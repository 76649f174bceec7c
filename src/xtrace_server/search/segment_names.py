"""The names of segments. Imports neither storage nor settings, because it also runs in the cluster."""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray


def packed_nonces(nonces: Sequence[bytes | None]) -> bytes:
    """Returns the nonces as one MessagePack array."""
    return msgspec.msgpack.encode(nonces)


def segment_name(rows: NDArray[np.uint8], nonces: bytes) -> bytes:
    """Returns a 32-byte hash of rows (n, row length) and their packed nonces."""
    digest = hashlib.sha256(rows.shape[1].to_bytes(8, "little"))
    digest.update(len(nonces).to_bytes(8, "little"))
    digest.update(nonces)
    digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()
