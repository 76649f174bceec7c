"""Records: the bits of a vector under AES-SIV, bound to the context and to the chunk's nonce."""

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.lattice import TAG_BYTES, record_bytes
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.keys.siv import Siv
from xtrace_sdk.x_vec.schemes.bits import PackedBits
from xtrace_sdk.x_vec.schemes.interface import Bits, Valid


class Records(Secretive):
    """Seals and opens the records of one context."""

    __slots__ = ("_beyond", "_context_id", "_embed_len", "_siv", "width")

    def __init__(self, keys: tuple[bytes, bytes], context_id: bytes, embed_len: int) -> None:
        self._siv = Siv(*keys)
        self._context_id = np.frombuffer(context_id, dtype=np.uint8)
        self._embed_len = embed_len
        self.width = record_bytes(embed_len)
        """The length of a record."""
        self._beyond = ~self._padded(pack(np.ones((1, embed_len), dtype=np.uint8)))

    def seal(self, packed: PackedBits, nonces: Rows) -> Rows:
        """Returns the records `(n, width)` of vectors from `pack` under their nonces."""
        return self._siv.seal(self._padded(packed), self._associated(nonces))

    def open(self, records: Rows, nonces: Rows) -> tuple[PackedBits, Valid]:
        """Returns `(vectors, valid)` as `pack` returned them; ignore the vectors of records that are not valid."""
        padded, valid = self._siv.open(records, self._associated(nonces))
        in_use = -(-self._embed_len // 8)
        return padded[:, :in_use], valid & ~(padded & self._beyond).any(axis=1)

    def unpack(self, packed: PackedBits) -> Bits:
        """Reverses `pack`."""
        return np.unpackbits(packed, axis=1, count=self._embed_len, bitorder="little")

    def _padded(self, packed: PackedBits) -> Rows:
        return np.pad(packed, ((0, 0), (0, self.width - TAG_BYTES - packed.shape[1])))

    def _associated(self, nonces: Rows) -> Rows:
        return np.concatenate([np.broadcast_to(self._context_id, (len(nonces), len(self._context_id))), nonces], axis=1)


def pack(bits: Bits) -> PackedBits:
    """Packs vectors with eight positions per byte, the first one in the lowest bit."""
    return np.packbits(bits, axis=1, bitorder="little")
