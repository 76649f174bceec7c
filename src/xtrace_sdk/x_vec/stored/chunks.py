"""Reading everything that is stored under a context: batch by batch, decrypted and checked on all cores."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_sdk.errors import ContentTampered
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.schemes.interface import Bits

T = TypeVar("T")

READ_FIELDS = ("index", "nonce", "chunk_content")
"""What `read_chunks` needs of a chunk."""


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """What chunks hold, each field with one element for each."""

    vectors: Bits
    """Of a vector that is not valid it means nothing."""
    valid: NDArray[np.bool_]
    """Whether the ciphertexts are a vector, under both primes, with the noise of the chunk's nonce."""
    contents: list[bytes | None]
    """None where the content cannot be authenticated, together with the nonce, under the context."""

    def bad(self) -> NDArray[np.intp]:
        """The positions of chunks of which either cannot be used."""
        return np.flatnonzero(~self.valid | np.array([content is None for content in self.contents], dtype=np.bool_))


def read_chunks(context: ExecutionContext, chunks: Sequence[StoredChunk]) -> ReadChunks:
    """The vectors and contents of chunks, with `READ_FIELDS`, that are stored under the context."""
    nonces = [chunk.get("nonce") for chunk in chunks]
    vectors, valid = context.homomorphic.decrypt_vec_batch([chunk["index"] for chunk in chunks], nonces)
    contents = [_content(context, chunk["chunk_content"], nonce) for chunk, nonce in zip(chunks, nonces, strict=True)]
    return ReadChunks(vectors, valid, contents)


def _content(context: ExecutionContext, stored: str, nonce: bytes | None) -> bytes | None:
    if context.aes.binds_nonces and not nonce:
        return None
    try:
        return context.aes.decrypt_bytes(stored, nonce or b"")
    except ContentTampered:
        return None


async def count_chunks(integration: XTraceIntegration, kb_id: str, context_id: str) -> int:
    """How many chunks of a knowledge base are stored under a context, as the service says."""
    return (await integration.meta_search_paginated(kb_id, context_id, {}, ["name"], limit=1)).total


async def stored_batches(
    integration: XTraceIntegration, kb_id: str, context_id: str, fields: Iterable[str], size: int
) -> AsyncGenerator[list[StoredChunk], None]:
    """All chunks under a context by ascending id; the next batch travels while the caller works on one."""
    stored = integration.iter_meta_search(kb_id, {}, context_id, projection=fields, page_size=size)
    pages = grouped(stored, size)
    reading = asyncio.create_task(_next(pages))
    try:
        while batch := await reading:
            reading = asyncio.create_task(_next(pages))
            yield batch
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await pages.aclose()


async def grouped(chunks: AsyncIterator[StoredChunk], size: int) -> AsyncGenerator[list[StoredChunk], None]:
    """The chunks in their order, in batches of `size`."""
    batch: list[StoredChunk] = []
    async for chunk in chunks:
        batch.append(chunk)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def on_all_cores(work: Callable[[list[StoredChunk]], T], batch: list[StoredChunk]) -> list[T]:
    """What `work` gives for each share of the batch, in order; a share for each core."""
    # The arithmetic and the ciphers leave the interpreter to the other threads.
    size = max(1, -(-len(batch) // (os.cpu_count() or 1)))
    shares = [batch[start : start + size] for start in range(0, len(batch), size)]
    return list(await asyncio.gather(*(asyncio.to_thread(work, share) for share in shares)))


async def _next(pages: AsyncIterator[list[StoredChunk]]) -> list[StoredChunk]:
    return await anext(pages, [])
