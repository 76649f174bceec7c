"""Decrypting fetched chunks: each must belong to the very vector that a search found, wherever a rotation moved it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import ChangedSinceSearch, ContentTampered, UnknownContent
from xtrace_sdk.x_vec.chunks.envelope import VectorCopy
from xtrace_sdk.x_vec.chunks.private_metadata import Projection
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers.scan import Nearest
from xtrace_sdk.x_vec.stored.content import clear_chunk, open_content, open_under_lineage


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search saw of a chunk."""

    context: ExecutionContext
    nonce: bytes
    query: NDArray[np.uint8]
    distance: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Decrypted:
    """A fetched chunk, read."""

    chunk: dict[str, Any]
    """What was fetched, with its text as `chunk_content`, without its nonce."""
    vector_copy: VectorCopy | None = None
    has_moved: bool = False
    """Whether a rotation has moved it since it was found: it is shown to `expect_same_vectors` before it is used."""


class Contents(Secretive):
    """Remembers, per knowledge base, what searches found, and decrypts what is fetched of it."""

    def __init__(self, context: ExecutionContext) -> None:
        self._context = context
        self._found: dict[tuple[str, int], _Found] = {}

    def remember(self, kb_id: str, context: ExecutionContext, query: NDArray[np.uint8], nearest: Nearest) -> None:
        """The chunks that a search with this query found under the context."""
        for chunk_id, distance, nonce in zip(
            nearest.chunk_ids.tolist(), nearest.distances.tolist(), nearest.nonces, strict=True
        ):
            self._found[kb_id, chunk_id] = _Found(context, nonce or b"", query, distance)

    def decrypted(self, kb_id: str, chunk: Mapping[str, Any], wanted: Projection) -> Decrypted:
        """What is wanted of a fetched chunk, in clear.

        Raises `ContentTampered`, `UnknownContent`, and `ChangedSinceSearch` if it was replaced since it was found.
        """
        if "chunk_content" not in wanted.fetched:
            return Decrypted(wanted.of(chunk))
        chunk_id, stored, nonce = chunk["chunk_id"], chunk.get("chunk_content", ""), chunk.get("nonce") or b""
        found = self._found.get((kb_id, chunk_id))
        try:
            if found is not None and nonce == found.nonce:
                context, content = found.context, open_content(found.context, stored, nonce)
            else:
                context, content = open_under_lineage(self._context, stored, nonce)
            plain = wanted.of(clear_chunk(context, chunk, content, wanted.shown))
        except (ContentTampered, UnknownContent) as error:
            raise type(error)(f"chunk {chunk_id}: {error}") from None
        has_moved = found is not None and nonce != found.nonce
        if found is not None and has_moved and (context is found.context or found.context is self._context):
            raise _replaced(chunk_id)
        return Decrypted(plain, content.vector_copy, has_moved)

    def expect_same_vectors(
        self, kb_id: str, chunks: Iterable[Mapping[str, Any]], nonces: Mapping[int, bytes | None]
    ) -> None:
        """Raises `ChangedSinceSearch` unless the vectors of moved chunks are as far from the query as those found.

        `chunks` have their ciphertexts, `nonces` are those that their contents were decrypted with. Without this look
        a service could exchange the contents of two chunks under cover of a rotation.
        """
        missing = set(nonces)
        for chunk in chunks:
            missing.discard(chunk["chunk_id"])
            chunk_id, nonce = chunk["chunk_id"], chunk.get("nonce")
            found = self._found[kb_id, chunk_id]
            bits, valid = self._context.homomorphic.decrypt_vec_batch([chunk["index"]], [nonce])
            distance = int(np.count_nonzero(bits[0] != found.query))
            if nonce != nonces[chunk_id] or not valid.all() or distance != found.distance:
                raise _replaced(chunk_id)
            self._found[kb_id, chunk_id] = _Found(self._context, nonce or b"", found.query, distance)
        if missing:  # deleted just now, or withheld so that nobody looks
            raise _replaced(min(missing))


def _replaced(chunk_id: int) -> ChangedSinceSearch:
    return ChangedSinceSearch(f"chunk {chunk_id} was replaced since it was found: search again")
