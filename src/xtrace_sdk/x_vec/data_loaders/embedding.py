"""Texts to vectors with a model: a text that the model refuses is found, named, and keeps no other one back."""

from collections.abc import Sequence
from typing import Any

from xtrace_sdk.errors import EmbeddingError, TextRefused
from xtrace_sdk.x_vec.chunks.vectors import Embedder, embedded
from xtrace_sdk.x_vec.data_loaders.chunks import PassedOverText, PlainChunk
from xtrace_sdk.x_vec.data_loaders.encrypting import EmbeddedVectors

Embedded = list[tuple[PlainChunk, Any]]
"""Chunks with their vectors."""


class BatchEmbedder:
    """Embeds the batches of one load."""

    def __init__(
        self, model: Embedder, passed_over: list[PassedOverText], *, as_floats: bool, is_strict: bool = False
    ) -> None:
        """What the model refuses is added to `passed_over`; if strict, it is raised instead."""
        self._model = model
        self._passed_over = passed_over
        self._as_floats = as_floats
        self._is_strict = is_strict

    async def embed(self, chunks: Sequence[PlainChunk]) -> tuple[Sequence[PlainChunk], EmbeddedVectors]:
        """The chunks that the model embeds, and their vectors. Raises what the model raises about itself.

        After a refusal the model is asked for a plain word first: if it refuses that as well, the texts are not to
        blame. Then the refused texts are searched for by halving the batch.
        """
        try:
            return chunks, await self._vectors([chunk.content for chunk in chunks])
        except TextRefused as refusal:
            await self._check_model(refusal)
            pairs = await self._halves(chunks, refusal)
        return [chunk for chunk, _ in pairs], [vector for _, vector in pairs]

    async def _check_model(self, refusal: TextRefused) -> None:
        try:
            await self._vectors(["word"])
        except EmbeddingError:
            raise refusal from None

    async def _halves(self, chunks: Sequence[PlainChunk], refusal: TextRefused) -> Embedded:
        """The pairs of chunks that were refused together."""
        if len(chunks) > 1:
            middle = len(chunks) // 2
            return await self._part(chunks[:middle]) + await self._part(chunks[middle:])
        if self._is_strict:
            raise TextRefused(f"chunk {chunks[0].position} of the collection: {refusal}") from None
        self._passed_over.append(PassedOverText(chunks[0].position, str(refusal)))
        return []

    async def _part(self, chunks: Sequence[PlainChunk]) -> Embedded:
        try:
            return list(zip(chunks, await self._vectors([chunk.content for chunk in chunks]), strict=True))
        except TextRefused as refusal:
            return await self._halves(chunks, refusal)

    async def _vectors(self, texts: Sequence[str]) -> EmbeddedVectors:
        return await embedded(self._model, texts, as_floats=self._as_floats)
