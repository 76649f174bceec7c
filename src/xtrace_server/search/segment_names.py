"""What a segment is called wherever it is held. Imports neither storage nor settings: it runs in a cluster, too."""

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray


def packed_nonces(nonces: Sequence[bytes | None]) -> bytes:
    """Returns the nonces as one MessagePack array."""
    return msgspec.msgpack.encode(nonces)


def segment_name(rows: NDArray[np.uint8], nonces: bytes) -> bytes:
    """Returns a hash of 32 bytes of rows (n, row length) and their packed nonces."""
    digest = hashlib.sha256(rows.shape[1].to_bytes(8, "little"))
    digest.update(len(nonces).to_bytes(8, "little"))
    digest.update(nonces)
    digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()
