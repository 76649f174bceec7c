"""Collections on a real server for tests: a context of toy keys, and a model whose vectors follow from the texts."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.schemes import key_len
from xtrace_sdk.x_vec.chunks.vectors import float_to_bits
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DIM = 32


class Model:
    """Gives each text a vector of its own."""

    def __init__(self) -> None:
        self.embedded: list[str] = []

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return np.array([vector_of(text) for text in texts], dtype=np.float32).reshape(len(texts), DIM)

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return float_to_bits(await self.embed_many(texts))


class BitsModel:
    """The same, and gives nothing but bits."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        return await Model().bin_embed_many(texts)


def vector_of(text: str) -> NDArray[np.float32]:
    """The vector that the model gives a text."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=DIM).astype(np.float32)


def toy_context(*, dim: int = DIM, scheme: str = "paillier_lookup", **more: Any) -> ExecutionContext:
    """A context for vectors of `dim` bits whose keys protect nothing, made in no time."""
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, scheme, dim, key_len(scheme), insecure_allow_weak_parameters=True, **more)


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The plain reference."""
    first, second = one.astype(float), other.astype(float)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))
