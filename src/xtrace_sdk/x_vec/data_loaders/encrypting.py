"""Converts checked chunks and their vectors to their stored form."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.chunks.envelope import Content, VectorCopy, pack
from xtrace_sdk.x_vec.chunks.private_metadata import hidden_meta_data, private_part
from xtrace_sdk.x_vec.chunks.vector_copies import CopyKind, as_floats, copy_kind, vector_copies
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.names import ChunkNames
from xtrace_sdk.x_vec.data_loaders.chunks import PlainChunk
from xtrace_sdk.x_vec.inference.model import EmbeddingModel, vector_form
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch

EncryptedChunks = list[dict[str, Any]]
"""Encrypted chunks without their final names; each has `chunk_content`, `meta_data` and `base_name`."""
EmbeddedVectors = Sequence[Any] | NDArray[Any]
"""Vectors from the user or the model, one for each chunk."""


class PlainContents(NamedTuple):
    """The parts of chunks before encryption; each field has one element per chunk."""

    contents: list[bytes]
    vectors: NDArray[np.uint8]
    meta_data: list[dict[str, Any]]
    """In the service's form."""


class ChunkEncryptor(Secretive):
    """Encrypts chunks under one context, optionally with copies of their vectors."""

    __slots__ = ("_context", "_form", "vector_copy")

    def __init__(
        self, context: ExecutionContext, vector_copy: CopyKind | None, model: EmbeddingModel | None = None
    ) -> None:
        """`model` is the model of the vectors, by default the context's.

        Raises `InvalidArgument` for an unknown kind of copy, `OtherModel` for a model with a different number of bits.
        """
        self._context = context
        self._form = vector_form(context.embed_len(), model or context.embedding_model)
        self.vector_copy = copy_kind(vector_copy)

    def encrypt(
        self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """Returns `(index, db)` in the order of the chunks. Raises `InvalidArgument` and `InvalidVector`."""
        plain = self.plain(chunks, vectors)
        index = self._context.homomorphic.encrypt_vec_batch(plain.vectors)
        db = [
            {
                "chunk_content": self._context.aes.encrypt(content, encrypted.nonce),
                "meta_data": meta_data,
                "base_name": chunk.base_name,
            }
            for chunk, content, meta_data, encrypted in zip(chunks, plain.contents, plain.meta_data, index, strict=True)
        ]
        return index, db

    def plain(self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors) -> PlainContents:
        """Returns what `encrypt` encrypts. Raises `InvalidArgument` and `InvalidVector`."""
        if len(vectors) != len(chunks):
            raise InvalidArgument(f"got {len(chunks)} chunks but {len(vectors)} vectors; the counts must match")
        return PlainContents(
            self._plaintexts(chunks, vectors),
            self._bits(chunks, vectors),
            [hidden_meta_data(self._context, chunk.meta_data) for chunk in chunks],
        )

    def _plaintexts(self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors) -> list[bytes]:
        copies: Sequence[VectorCopy | None] = [None] * len(chunks)
        if self.vector_copy is not None:
            floats = self._each(chunks, vectors, lambda vector: as_floats(vector, self._form.dim))
            copies = list(vector_copies(np.stack(floats), self.vector_copy)) if floats else []
        return [
            pack(Content(chunk.content, private_part(self._context, chunk.meta_data), copy, chunk.name))
            for chunk, copy in zip(chunks, copies, strict=True)
        ]

    def _bits(self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors) -> NDArray[np.uint8]:
        """Returns the vectors as bits `(n, embed_len)`; converts all floats together."""
        if (together := self._form.all_elements(vectors)) is not None:
            return self._form.bits(together) if together.dtype.kind == "f" else together
        elements = self._each(chunks, vectors, self._form.elements)
        bits = np.empty((len(elements), self._form.embed_len), dtype=np.uint8)
        floats = [i for i, vector in enumerate(elements) if vector.dtype.kind == "f"]
        if floats:
            bits[floats] = self._form.bits(np.stack([elements[i] for i in floats]))
        for i, vector in enumerate(elements):
            if vector.dtype.kind != "f":
                bits[i] = vector
        return bits

    def _each(
        self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors, convert: Callable[[Any], NDArray[Any]]
    ) -> list[NDArray[Any]]:
        """Converts each vector. Raises `InvalidVector` with the position of an invalid one."""
        converted = []
        for chunk, vector in zip(chunks, vectors, strict=True):
            try:
                converted.append(convert(vector))
            except InvalidVector as error:
                raise InvalidVector(f"vector {chunk.position}: {error}") from None
        return converted


def base_name(chunk: Mapping[str, Any]) -> str:
    """Returns the base name of an encrypted chunk. Raises `InvalidArgument` for one from elsewhere."""
    given = chunk.get("base_name")
    if not isinstance(given, str):
        raise InvalidArgument("a chunk has no base_name, expected chunks as load_data_from_memory returns them")
    return given


def named(db: EncryptedChunks, names: ChunkNames) -> EncryptedChunks:
    """Returns the chunks for sending, with their names in a knowledge base instead of their base names."""
    return [_named(chunk, names) for chunk in db]


def _named(chunk: dict[str, Any], names: ChunkNames) -> dict[str, Any]:
    sent = {**chunk, "name": names.name(base_name(chunk))}
    del sent["base_name"]
    return sent
