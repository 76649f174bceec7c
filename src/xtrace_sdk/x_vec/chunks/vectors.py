"""Vectors as users have them (floats, bits, lists, awaitables) as the binary vectors that are encrypted."""

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, InvalidVector


@runtime_checkable
class Embedder(Protocol):
    """What loading and searching texts needs of an embedding model; `Embedding` is one."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Binary vectors `(n, dim)` of the texts."""
        ...


@runtime_checkable
class FloatEmbedder(Embedder, Protocol):
    """What rescoring needs of it besides."""

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Float vectors `(n, dim)` of the texts."""
        ...


async def embedded(embedding: Embedder, texts: Sequence[str], *, as_floats: bool) -> NDArray[Any]:
    """The texts' vectors `(n, dim)`: floats as the model gives them, or bits.

    Raises `InvalidArgument` if floats are wanted of a model that has only bits, and what the model raises.
    """
    if not as_floats:
        return await embedding.bin_embed_many(texts)
    if not isinstance(embedding, FloatEmbedder):
        raise InvalidArgument(
            f"{type(embedding).__name__} has no embed_many, expected a model that gives floats: rescoring compares "
            "vectors before they are reduced to bits"
        )
    return await embedding.embed_many(texts)


def float_to_bits(vector: Any) -> NDArray[np.uint8]:
    """The signs of a float vector or matrix: 1 where an element is above 0, else 0; same shape, dtype uint8.

    Raises `InvalidVector` for elements that are not finite numbers.
    """
    floats = np.asarray(vector)
    if floats.dtype.kind not in "fiub" or not np.isfinite(floats).all():
        raise InvalidVector("got a vector with elements that are not finite numbers, expected an embedding of floats")
    return (floats > 0).astype(np.uint8)


def as_bits(vector: Any, embed_len: int) -> NDArray[np.uint8]:
    """One vector as `(embed_len,)` uint8 bits: floats by their sign, integers and booleans must be 0 or 1.

    Raises `InvalidVector` for any other shape, length or element.
    """
    try:
        elements = np.asarray(vector)
    except ValueError:
        elements = np.empty((0, 0))
    if elements.ndim != 1:
        raise InvalidVector(f"got an array of {elements.ndim} dimensions, expected one vector of {embed_len} positions")
    if len(elements) != embed_len:
        raise InvalidVector(
            f"got a vector of {len(elements)} positions, expected {embed_len}, the context's embedding length: "
            "embed with the model and the dimension that the context was created for"
        )
    if elements.dtype.kind == "f":
        return float_to_bits(elements)
    if elements.dtype.kind not in "biu" or not ((elements == 0) | (elements == 1)).all():
        raise InvalidVector("got a vector of integers other than 0 and 1, expected bits or floats")
    return elements.astype(np.uint8)


async def resolve(vector: Any) -> Any:
    """The vector itself, awaited if it is a coroutine or another awaitable."""
    return await vector if inspect.isawaitable(vector) else vector


async def resolve_all(vectors: Sequence[Any]) -> Sequence[Any]:
    """The vectors in their order, those that are awaitables awaited together."""
    if not any(inspect.isawaitable(vector) for vector in vectors):
        return vectors
    return await asyncio.gather(*(resolve(vector) for vector in vectors))
