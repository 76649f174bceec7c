"""Reads everything that is stored under a context, batch by batch, decrypted and checked on all cores."""

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
"""The fields of a chunk that `read_chunks` needs."""


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """The contents of chunks; each field has one element per chunk."""

    vectors: Bits
    """The vectors; ignore those that are not valid."""
    valid: NDArray[np.bool_]
    """Whether the ciphertexts decrypt to a vector under both primes, with the noise of the chunk's nonce."""
    contents: list[bytes | None]
    """The contents; None for one that cannot be authenticated with its nonce under the context."""

    def bad(self) -> NDArray[np.intp]:
        """The positions of chunks whose vector or content cannot be used."""
        return np.flatnonzero(~self.valid | np.array([content is None for content in self.contents], dtype=np.bool_))


def read_chunks(context: ExecutionContext, chunks: Sequence[StoredChunk]) -> ReadChunks:
    """Returns the vectors and contents of chunks under the context, which have `READ_FIELDS`."""
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
    """Returns the number of chunks of a knowledge base under a context, according to the service."""
    return (await integration.meta_search_paginated(kb_id, context_id, {}, ["name"], limit=1)).total


async def stored_batches(
    integration: XTraceIntegration, kb_id: str, context_id: str, fields: Iterable[str], size: int
) -> AsyncGenerator[list[StoredChunk], None]:
    """Yields all chunks under a context by ascending id; fetches the next batch while the caller uses one."""
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
    """Yields the chunks in order, in batches of `size`."""
    batch: list[StoredChunk] = []
    async for chunk in chunks:
        batch.append(chunk)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


async def on_all_cores(work: Callable[[list[StoredChunk]], T], batch: list[StoredChunk]) -> list[T]:
    """Returns the results of `work` for the parts of the batch, one for each core, in order."""
    # The arithmetic and the ciphers release the interpreter's lock.
    size = max(1, -(-len(batch) // (os.cpu_count() or 1)))
    shares = [batch[start : start + size] for start in range(0, len(batch), size)]
    return list(await asyncio.gather(*(asyncio.to_thread(work, share) for share in shares)))


async def _next(pages: AsyncIterator[list[StoredChunk]]) -> list[StoredChunk]:
    return await anext(pages, [])
