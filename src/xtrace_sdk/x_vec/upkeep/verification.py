"""Reading everything in a knowledge base to find what cannot be used: damaged, substituted, or written otherwise.

One such row makes every search that meets it fail as a whole, because a client that leaves out what it cannot read
tells the service about its key (docs/security.md). So the bad chunks are found, and replaced or deleted.
"""

import time
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from xtrace_sdk.errors import ContentTampered, InvalidArgument, UnknownContent
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import unpack
from xtrace_sdk.x_vec.chunks.private_metadata import clear_meta_data
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS, Chunk, batches, count_chunks, on_all_cores, read_chunks

BATCH_SIZE = 500
"""Chunks that are in memory at once; twice as many while the next ones travel."""


class Problem(StrEnum):
    """What cannot be used of a chunk."""

    VECTOR = "vector"
    """Its ciphertexts are no vector under the context with the noise of its nonce: searches that meet it fail."""
    CONTENT = "content"
    """Its content cannot be authenticated together with its nonce: it cannot be retrieved."""
    METADATA = "metadata"
    """Its private metadata is not that of its content: it cannot be retrieved with metadata, and filters go wrong."""


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that cannot be used."""

    chunk_id: int
    problems: tuple[Problem, ...]
    updated_at: str
    """When it was written last, as the service says."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What was read, and what of it is bad."""

    chunks: int
    """How many chunks were read; one that a rotation moved meanwhile may count twice."""
    bad: tuple[BadChunk, ...]
    """By ascending id."""
    seconds: float


async def verify(
    context: ExecutionContext, integration: XTraceIntegration, kb_id: str, *, batch_size: int = BATCH_SIZE
) -> Verification:
    """Reads every chunk of a knowledge base under the context, and its predecessor if it has one; changes nothing.

    A chunk is good if its ciphertexts decrypt under both primes to a vector of the context's length with the noise of
    its nonce, its content is authentic under that nonce, and its private metadata is that of its content. What the
    service withholds, other metadata, and an older state are not noticed; compare `chunks` with how many you stored.

    The service learns that everything was read. Raises `InvalidArgument`, also if nothing was ever stored there under
    the context, and what `XTraceIntegration` raises.
    """
    if batch_size < 1:
        raise InvalidArgument(f"batch_size is {batch_size}, expected at least 1")
    began = time.monotonic()
    if not {one.id for one in context.lineage} & set(await integration.get_ctx_for_kb(kb_id)):
        raise InvalidArgument("nothing was ever stored in this knowledge base under this context: is it the right one?")
    count, bad = 0, dict[int, BadChunk]()
    total = sum([await count_chunks(integration, kb_id, one.id) for one in context.lineage])
    with progress_bar("Verifying", total) as advance:
        for one in context.lineage:  # in this order no chunk is missed that a rotation moves meanwhile
            reading = batches(integration, kb_id, one.id, (*READ_FIELDS, "meta_data", "updated_at"), batch_size)
            async with aclosing(reading):
                async for batch in reading:
                    bad |= {chunk.chunk_id: chunk for chunk in await _bad_chunks(one, batch)}
                    count += len(batch)
                    advance(len(batch))
    return Verification(count, tuple(bad[chunk_id] for chunk_id in sorted(bad)), time.monotonic() - began)


async def delete_bad(integration: XTraceIntegration, kb_id: str, bad: Iterable[BadChunk]) -> list[int]:
    """Deletes bad chunks and returns their ids; those that were written since they were read are left alone.

    There is no way back, and whether it was the service that damaged them on their way here nobody can tell: have the
    texts elsewhere. Raises what `XTraceIntegration` raises; the key needs permission to delete.
    """
    read = {chunk.chunk_id: chunk.updated_at for chunk in bad}
    stored = await integration.get_chunk_by_id(sorted(read), kb_id, projection=["updated_at"])
    same = [chunk["chunk_id"] for chunk in stored if chunk["updated_at"] == read[chunk["chunk_id"]]]
    await integration.delete_chunks(same, kb_id)
    return same


async def _bad_chunks(context: ExecutionContext, batch: list[Chunk]) -> list[BadChunk]:
    def bad_of(chunks: list[Chunk]) -> list[BadChunk]:
        read = read_chunks(context, chunks)
        problems = [
            _problems(context, chunk, bool(valid), content)
            for chunk, valid, content in zip(chunks, read.valid, read.contents, strict=True)
        ]
        return [
            BadChunk(chunk["chunk_id"], found, chunk["updated_at"])
            for chunk, found in zip(chunks, problems, strict=True)
            if found
        ]

    return [bad for share in await on_all_cores(bad_of, batch) for bad in share]


def _problems(
    context: ExecutionContext, chunk: Chunk, vector_is_valid: bool, content: bytes | None
) -> tuple[Problem, ...]:
    found = [] if vector_is_valid else [Problem.VECTOR]
    if content is None:
        found.append(Problem.CONTENT)
    elif context.private_metadata and not _has_its_metadata(context, chunk, content):
        found.append(Problem.METADATA)
    return tuple(found)


def _has_its_metadata(context: ExecutionContext, chunk: Chunk, content: bytes) -> bool:
    """False if the private metadata is another's; what a newer version wrote cannot be told here, and is left alone."""
    try:
        clear_meta_data(context, chunk.get("meta_data", {}), unpack(content).meta_data)
    except ContentTampered:
        return False
    except UnknownContent:
        pass
    return True
