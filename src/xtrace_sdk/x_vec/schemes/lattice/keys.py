"""The keys of a context of the scheme `lattice`, all derived from one root (docs/formats.md, "Records")."""

import hmac
import secrets
import struct
from typing import Final, Self

import numpy as np

from xtrace_core.arithmetic import Rows
from xtrace_core.schemes.lattice import PARAMETERS
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.mac import Mac
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.bits import PackedBits, check_embed_len

ROOT_BYTES: Final = 32
ID_BYTES: Final = 16
NONCE_BYTES: Final = 16
RANDOM_BYTES: Final = 16
RECORDS: Final = "sealed-1"


def prf(key: bytes, label: str, *parts: bytes) -> bytes:
    """Returns HMAC-SHA-256 of the label and the parts, each after its length (4 bytes, little-endian)."""
    return hmac.digest(key, _framed(label.encode(), *parts), "sha256")


def _framed(*parts: bytes) -> bytes:
    return b"".join([struct.pack("<I", len(part)) + part for part in parts])


class LatticeKeys(Secretive):
    """The root of one context with the keys derived from it."""

    __slots__ = ("_nonce_mac", "embed_len", "hedge", "id", "root", "vector_key")

    def __init__(self, root: bytes, embed_len: int) -> None:
        """Raises `ValueError` for a root that does not have 32 bytes, `InvalidArgument` for a wrong length."""
        if len(root) != ROOT_BYTES:
            raise ValueError(f"the root has {len(root)} bytes, expected {ROOT_BYTES}")
        check_embed_len(embed_len)
        self.root = root
        self.embed_len = embed_len
        self.id = prf(root, "public")[:ID_BYTES]
        """Identifies the root in public."""
        self.hedge = Hedge(prf(root, "hedge"))
        self.vector_key = derived_key(root, PARAMETERS, self.id, embed_len)
        """From which nonces and everything secret in blocks derive."""
        self._nonce_mac = Mac(self.vector_key)

    @classmethod
    def generate(cls, embed_len: int) -> Self:
        """Creates a new root. Raises `InvalidArgument` for a wrong length."""
        return cls(secrets.token_bytes(ROOT_BYTES), embed_len)

    def record_keys(self) -> tuple[bytes, bytes]:
        """Returns the two keys of AES-SIV."""
        return record_keys(self.root, self.id, self.embed_len)

    def nonces(self, packed: PackedBits) -> Rows:
        """Returns a fresh nonce for each packed vector, `(n, 16)`. Two vectors never share one."""
        return self._nonces_from(self.hedge.draw_rows("nonce", packed, RANDOM_BYTES), packed)

    def _nonces_from(self, randomness: Rows, packed: PackedBits) -> Rows:
        # The same as `prf(self.vector_key, …)`.
        nonces = [
            self._nonce_mac.digest(_framed(b"chunk", fresh.tobytes(), vector.tobytes()))[:NONCE_BYTES]
            for fresh, vector in zip(randomness, packed, strict=True)
        ]
        return np.frombuffer(b"".join(nonces), dtype=np.uint8).reshape(len(packed), NONCE_BYTES)


def record_keys(root: bytes, context_id: bytes, embed_len: int) -> tuple[bytes, bytes]:
    """Returns the keys of AES-SIV for the codes and for the encryption of records."""
    key = derived_key(root, RECORDS, context_id, embed_len)
    return prf(key, "mac"), prf(key, "ctr")


def derived_key(root: bytes, label: str, context_id: bytes, embed_len: int) -> bytes:
    """Returns the key with this label for vectors of this length."""
    return prf(root, label, context_id, struct.pack("<H", embed_len))
