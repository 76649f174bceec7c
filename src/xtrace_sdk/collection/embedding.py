"""Determines the vectors of records: given by the caller, or embedded from their texts."""

from collections.abc import Iterable, Sequence
from typing import Any

from xtrace_sdk.collection.record import CheckedRecord
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.chunks.vectors import Embedder, FloatEmbedder, resolve_all
from xtrace_sdk.x_vec.data_loaders.chunks import PlainChunk
from xtrace_sdk.x_vec.data_loaders.embedding import BatchEmbedder


class RecordEmbedder:
    """Embeds the texts of records without a vector."""

    def __init__(self, embedding: Embedder | None, with_copies: bool) -> None:
        """`with_copies` requests floats, if the model returns any."""
        self._embedding = embedding
        self._as_floats = with_copies and isinstance(embedding, FloatEmbedder)

    def check(self, records: Iterable[CheckedRecord]) -> None:
        """Raises `InvalidArgument` if a text has to be embedded and no model is known."""
        if self._embedding is None and any(map(_needs_embedding, records)):
            raise InvalidArgument(
                "a record has a text but no vector, and no model is known to embed it: open the collection with "
                "embedding=…, pass a vector, or an empty list as vector to store the record without one"
            )

    async def vectors(self, records: Sequence[CheckedRecord]) -> list[Any]:
        """Returns the vector of each record: its own, that of its text, or None. Raises what the model raises."""
        vectors = list(await resolve_all([one.vector for one in records]))
        to_embed = [i for i, one in enumerate(records) if _needs_embedding(one)]
        if to_embed and self._embedding is not None:
            model = BatchEmbedder(self._embedding, [], as_floats=self._as_floats, is_strict=True)
            chunks = [PlainChunk(records[i].position, records[i].text or "", {}, None, "") for i in to_embed]
            _, embedded = await model.embed(chunks)
            for i, one in zip(to_embed, embedded, strict=True):
                vectors[i] = one
        return vectors


def _needs_embedding(record: CheckedRecord) -> bool:
    """Whether the record's text has to be embedded; a blank text has no vector."""
    return record.vector is None and record.text is not None and bool(record.text.strip())
