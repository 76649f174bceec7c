"""The keys of a replaced context: they still read stored data, but no longer encrypt.

A successor has its predecessor's keys only behind these classes, so that code which reads with them cannot use them for
new data by mistake (docs/security.md, "Retired keys").
"""

from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.schemes.interface import Answers, Bits, HomomorphicClient, Nonces


def retired_client(client: HomomorphicClient) -> HomomorphicClient:
    """The scheme's client without encryption."""
    return cast("HomomorphicClient", _RetiredClient(client))


def retired_cipher(cipher: ContentCipher) -> ContentCipher:
    """The cipher without encryption."""
    return cast("ContentCipher", _RetiredCipher(cipher))


class _RetiredClient(Secretive):
    __slots__ = ("_client",)

    def __init__(self, client: HomomorphicClient) -> None:
        self._client = client

    @property
    def embed_len(self) -> int:
        return self._client.embed_len

    @property
    def blocks(self) -> None:
        return None

    def stored_rows_query(self) -> list[bytes]:
        return self._client.stored_rows_query()

    def decrypt_vec_batch(self, rows: Answers, nonces: Nonces) -> tuple[Bits, NDArray[np.bool_]]:
        return self._client.decrypt_vec_batch(rows, nonces)

    def encrypt_vec_one(self, vector: Any) -> NoReturn:
        _refuse()

    def encrypt_vec_batch(self, vectors: Any) -> NoReturn:
        _refuse()

    def encrypt_queries(self, vectors: Any) -> NoReturn:
        _refuse()


class _RetiredCipher(Secretive):
    __slots__ = ("_cipher",)

    def __init__(self, cipher: ContentCipher) -> None:
        self._cipher = cipher

    @property
    def binds_nonces(self) -> bool:
        return self._cipher.binds_nonces

    def decrypt(self, stored: str | bytes, nonce: bytes | None = None) -> str:
        return self._cipher.decrypt(stored, nonce)

    def decrypt_bytes(self, stored: str | bytes, nonce: bytes | None = None) -> bytes:
        return self._cipher.decrypt_bytes(stored, nonce)

    def encrypt(self, content: str | bytes, nonce: bytes | None = None) -> NoReturn:
        _refuse()


def _refuse() -> NoReturn:
    raise InvalidArgument("this context was replaced by its successor, so it does not encrypt: use the successor")
