"""From checked chunks and their vectors to what is stored of them."""

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
"""Encrypted chunks before they have their names: `chunk_content`, `meta_data` and `base_name` each."""
EmbeddedVectors = Sequence[Any] | NDArray[Any]
"""Vectors as they were given or as the model gave them, one for each chunk."""


class PlainContents(NamedTuple):
    """What chunks hold before it is encrypted, each field with one element for each."""

    contents: list[bytes]
    vectors: NDArray[np.uint8]
    meta_data: list[dict[str, Any]]
    """As the service has it."""


class ChunkEncryptor(Secretive):
    """Encrypts chunks under one context, each with a copy of its vector if that is wanted."""

    __slots__ = ("_context", "_form", "vector_copy")

    def __init__(
        self, context: ExecutionContext, vector_copy: CopyKind | None, model: EmbeddingModel | None = None
    ) -> None:
        """`model` is what the vectors are from; by default the one that the context remembers.

        Raises `InvalidArgument` for another kind of copy, `OtherModel` for a model of another number of bits.
        """
        self._context = context
        self._form = vector_form(context.embed_len(), model or context.embedding_model)
        self.vector_copy = copy_kind(vector_copy)

    def encrypt(
        self, chunks: Sequence[PlainChunk], vectors: EmbeddedVectors
    ) -> tuple[EncryptedIndexBatch, EncryptedChunks]:
        """`(index, db)` in the order of the chunks. Raises `InvalidArgument` and `InvalidVector`."""
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
        """What `encrypt` encrypts. Raises `InvalidArgument` and `InvalidVector`."""
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
        """The vectors as bits `(n, embed_len)`; those that are floats are reduced to bits together."""
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
        """Each vector converted. Raises `InvalidVector` with the position of the one that is not valid."""
        converted = []
        for chunk, vector in zip(chunks, vectors, strict=True):
            try:
                converted.append(convert(vector))
            except InvalidVector as error:
                raise InvalidVector(f"vector {chunk.position}: {error}") from None
        return converted


def base_name(chunk: Mapping[str, Any]) -> str:
    """The base name of an encrypted chunk. Raises `InvalidArgument` for one of other origin."""
    given = chunk.get("base_name")
    if not isinstance(given, str):
        raise InvalidArgument("a chunk has no base_name, expected chunks as load_data_from_memory returns them")
    return given


def named(db: EncryptedChunks, names: ChunkNames) -> EncryptedChunks:
    """The chunks as they are sent: each with its name in a knowledge base in place of its base name."""
    return [
        {key: chunk[key] for key in chunk if key != "base_name"} | {"name": names.name(base_name(chunk))}
        for chunk in db
    ]
