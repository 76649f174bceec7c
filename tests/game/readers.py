"""Clients that lack a part of the check, made for the tests alone: with them the adversaries have to win."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.crypto_support import Client
from xtrace_sdk.x_vec.schemes.bits import PackedBits
from xtrace_sdk.x_vec.schemes.interface import Answers, Nonces, Valid
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery


class WithoutNonces:
    """Subtracts the query as an integer, and does not recompute the nonce from what is left."""

    __slots__ = ()

    def _authenticated(self, nonces: Nonces, packed: PackedBits) -> Valid:
        return np.ones(len(packed), dtype=np.bool_)


class NoiseAlone:
    """Takes any sum of two vectors that has the noise of its nonce, as clients did before rows authenticated
    themselves."""

    __slots__ = ()

    def _read(
        self: Any, rows: Answers, nonces: Nonces, query: EncryptedQuery | None, one_prime: bool
    ) -> tuple[NDArray[np.int64], Valid]:
        sums, good = self._sums(rows, nonces, query, one_prime)
        distances, valid = self._encoding.distances(sums)
        return distances, valid & good


def weakened(owner: Client, how: type) -> Client:
    """A reader with the keys of the owner that lacks a part of the check."""
    kind: type[Client] = type(how.__name__, (how, type(owner)), {"__slots__": ()})
    reader = kind.__new__(kind)
    for base in type(owner).__mro__:
        for name in getattr(base, "__slots__", ()):
            setattr(reader, name, getattr(owner, name))
    return reader
