"""Embeds texts with a model: finds and names a text that the model rejects, and embeds all others."""

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
        """Texts that the model rejects are added to `passed_over` or, if strict, raised."""
        self._model = model
        self._passed_over = passed_over
        self._as_floats = as_floats
        self._is_strict = is_strict

    async def embed(self, chunks: Sequence[PlainChunk]) -> tuple[Sequence[PlainChunk], EmbeddedVectors]:
        """Returns the chunks that the model embeds, with their vectors. Raises the model's errors not caused by texts.

        After a rejection, the model first gets a simple word: if it rejects that too, the texts are not the cause. Then
        the rejected texts are found by bisecting the batch.
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
        """Returns the pairs for chunks that were rejected together."""
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
