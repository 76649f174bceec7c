"""Converts users' vectors (floats, bits, lists, awaitables) to the binary vectors that are encrypted."""

import asyncio
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.chunks.superbit import superbits

_NOT_FINITE: Final = "got a vector with elements that are not finite numbers, expected an embedding of floats"


@runtime_checkable
class Embedder(Protocol):
    """The interface of an embedding model for loading and searching texts; `Embedding` implements it."""

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        """Returns binary vectors `(n, bits)` of the texts."""
        ...


@runtime_checkable
class FloatEmbedder(Embedder, Protocol):
    """What rescoring additionally needs."""

    async def embed_many(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns float vectors `(n, dim)` of the texts."""
        ...


@runtime_checkable
class QueryEmbedder(Protocol):
    """The additional interface of a model that embeds queries differently from stored texts."""

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """Returns the query's float vector `(dim,)`."""
        ...

    async def bin_embed_query(self, text: str) -> NDArray[np.uint8]:
        """Returns the query's binary vector `(bits,)`."""
        ...


async def embedded_query(embedding: Embedder, text: str, *, as_floats: bool) -> NDArray[Any]:
    """Returns a query's vector: floats `(dim,)` or bits `(bits,)`. Raises what `embedded` raises."""
    if isinstance(embedding, QueryEmbedder):
        return await (embedding.embed_query(text) if as_floats else embedding.bin_embed_query(text))
    (vector,) = await embedded(embedding, [text], as_floats=as_floats)
    return cast("NDArray[Any]", vector)


async def embedded(embedding: Embedder, texts: Sequence[str], *, as_floats: bool) -> NDArray[Any]:
    """Returns the texts' vectors: the model's floats `(n, dim)`, or bits `(n, bits)`.

    Raises `InvalidArgument` if floats are needed but the model returns only bits, and what the model raises.
    """
    if not as_floats:
        return await embedding.bin_embed_many(texts)
    if not isinstance(embedding, FloatEmbedder):
        raise InvalidArgument(
            f"{type(embedding).__name__} has no embed_many, expected a model that returns floats, which rescoring needs"
        )
    return await embedding.embed_many(texts)


def float_to_bits(vector: Any) -> NDArray[np.uint8]:
    """Returns the signs of a float vector or matrix: 1 for elements above 0, else 0; same shape, dtype uint8.

    Raises `InvalidVector` for elements that are not finite numbers.
    """
    floats = np.asarray(vector)
    if floats.dtype.kind not in "fiub" or not np.isfinite(floats).all():
        raise InvalidVector(_NOT_FINITE)
    return (floats > 0).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class VectorForm:
    """The form of a context's vectors, as floats and as the encrypted bits."""

    embed_len: int
    """The number of bits."""
    projected_dim: int | None = None
    """The number of floats that are projected to the bits (`superbits`); None if each bit is the sign of one float."""

    @property
    def dim(self) -> int:
        """The number of floats."""
        return self.embed_len if self.projected_dim is None else self.projected_dim

    def bits(self, floats: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns bits `(n, embed_len)` of float vectors `(n, dim)`. Raises `InvalidVector` if they are not finite."""
        return float_to_bits(floats) if self.projected_dim is None else superbits(finite_floats(floats), self.embed_len)

    def as_bits(self, vector: Any) -> NDArray[np.uint8]:
        """Returns one vector as `(embed_len,)` uint8. Raises what `elements` raises."""
        elements = self.elements(vector)
        return self.bits(elements[None])[0] if elements.dtype.kind == "f" else elements

    def elements(self, vector: Any) -> NDArray[Any]:
        """Checks one vector and returns it: finite floats `(dim,)`, or bits `(embed_len,)` uint8.

        Raises `InvalidVector` for any other shape, length or element.
        """
        try:
            elements = np.asarray(vector)
        except ValueError:
            elements = np.empty((0, 0))
        if elements.ndim != 1:
            raise InvalidVector(f"got an array of {elements.ndim} dimensions, expected one vector of {self.dim} floats")
        kind = elements.dtype.kind
        if len(elements) != (self.dim if kind == "f" else self.embed_len):
            raise InvalidVector(
                f"got a vector of {len(elements)} {'floats' if kind == 'f' else 'bits'}, {self._want()}"
            )
        if kind == "f":
            if not np.isfinite(elements).all():
                raise InvalidVector(_NOT_FINITE)
            return elements
        if kind not in "biu" or not ((elements == 0) | (elements == 1)).all():
            raise InvalidVector("got a vector of integers other than 0 and 1, expected bits or floats")
        return elements.astype(np.uint8)

    def all_elements(self, vectors: Sequence[Any] | NDArray[Any]) -> NDArray[Any] | None:
        """Checks vectors together, and returns them as a matrix of what `elements` returns; None if they have to be
        checked one by one, because they are of several types, or one is not valid."""
        if not isinstance(vectors, np.ndarray):
            if (
                not all(isinstance(one, np.ndarray) for one in vectors)
                or len({(one.dtype, one.shape) for one in vectors}) != 1
            ):
                return None
            vectors = np.stack(list(vectors))
        kind = vectors.dtype.kind
        if vectors.ndim != 2 or vectors.shape[1] != (self.dim if kind == "f" else self.embed_len):
            return None
        if kind == "f":
            return vectors if np.isfinite(vectors).all() else None
        is_binary = kind in "biu" and ((vectors == 0) | (vectors == 1)).all()
        return vectors.astype(np.uint8) if is_binary else None

    def _want(self) -> str:
        lengths = f"{self.embed_len}, the context's embedding length"
        if self.projected_dim is not None:
            lengths = (
                f"{self.dim} floats as the model gives them, or {self.embed_len} bits, the context's embedding length"
            )
        return f"expected {lengths}: embed with the model, dimensions and bits that the context was created for"


def finite_floats(elements: NDArray[Any]) -> NDArray[np.float32]:
    """Converts floats of any width to float32. Raises `InvalidVector` for one that is not a finite float32."""
    with np.errstate(over="ignore"):
        floats = elements.astype(np.float32)
    if not np.isfinite(floats).all():
        raise InvalidVector(_NOT_FINITE)
    return floats


async def resolve(vector: Any) -> Any:
    """Returns the vector, awaited if it is a coroutine or another awaitable."""
    return await vector if inspect.isawaitable(vector) else vector


async def resolve_all(vectors: Sequence[Any]) -> Sequence[Any]:
    """Returns the vectors in order; awaits all awaitables together."""
    if not any(not isinstance(vector, np.ndarray) and inspect.isawaitable(vector) for vector in vectors):
        return vectors
    return await asyncio.gather(*(resolve(vector) for vector in vectors))
