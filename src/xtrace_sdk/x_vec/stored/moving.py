"""Moves chunks from a context to its successor: encrypts them again, and changes nothing else."""

from collections.abc import Sequence

from xtrace_sdk.service.integration import StoredChunk
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndex
from xtrace_sdk.x_vec.schemes.interface import Bits
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS

MOVED_FIELDS = (*READ_FIELDS, "meta_data", "name", "updated_at")
"""The fields to fetch to move a chunk."""

Update = tuple[StoredChunk, EncryptedIndex]
"""An update of one chunk for `update_chunks`."""


def moved(
    context: ExecutionContext, chunks: Sequence[StoredChunk], vectors: Bits, contents: Sequence[str | bytes]
) -> list[Update]:
    """Returns the updates that move chunks, which have `MOVED_FIELDS`, to the context, unless others write them first.

    `vectors` and `contents` are their plaintexts.
    """
    index = context.homomorphic.encrypt_vec_batch(vectors)
    return [
        (
            {
                "chunk_id": chunk["chunk_id"],
                "chunk_content": context.aes.encrypt(content, encrypted.nonce),
                "meta_data": chunk["meta_data"],
                "name": chunk.get("name"),
                "if_updated_at": chunk["updated_at"],
            },
            encrypted,
        )
        for chunk, content, encrypted in zip(chunks, contents, index, strict=True)
    ]
