"""Finds stored chunks that cannot be used, without reacting to any single one.

Any reaction of a client to one bad row tells the service something about that row. So everything is read to the end
and, if anything was bad, read once more with the same requests in the same order. Only chunks that were bad both times
count. A service that changes a row once learns only whether anything was bad at all, not which row (docs/security.md,
"How the client reacts").
"""

from collections.abc import Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from xtrace_sdk.errors import ContentTampered, UnknownContent
from xtrace_sdk.limits import MAX_LISTED_CHUNKS
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import StoredChunk, XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import metadata_digest, unpack
from xtrace_sdk.x_vec.chunks.private_metadata import clear_meta_data
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS, count_chunks, on_all_cores, read_chunks, stored_batches


class Problem(StrEnum):
    """The kind of problem of a chunk."""

    VECTOR = "vector"
    """Its ciphertexts are not a vector under the context with the noise of its nonce: searches over it fail."""
    CONTENT = "content"
    """Its content cannot be authenticated together with its nonce: it cannot be retrieved."""
    METADATA = "metadata"
    """Its private metadata, or a record's hashes, do not match its content: it may not be retrieved, and filters give
    wrong results."""
    UNLISTED = "unlisted"
    """It is under the predecessor, and the manifest does not list its current form: it is not accepted, and never
    moves."""


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that cannot be used."""

    chunk_id: int
    problems: tuple[Problem, ...]
    updated_at: str
    """When it was last written, according to the service."""


@dataclass(frozen=True, slots=True)
class Found:
    """The number of chunks read, and the bad ones."""

    chunks: int
    """The number of chunks read; one that a rotation moved meanwhile may count twice."""
    bad: tuple[BadChunk, ...]
    """The chunks that were bad both times, by ascending id."""
    more: int
    """The number of bad chunks beyond `MAX_LISTED_CHUNKS`."""
    unsteady: tuple[int, ...]
    """The ids of chunks that were bad in the first pass but not in the second, ascending."""
    unlisted: int
    """The number of chunks under the predecessor that no manifest lists."""


async def find_bad(
    contexts: Sequence[ExecutionContext],
    integration: XTraceIntegration,
    kb_id: str,
    batch_size: int,
    description: str,
    of_concern: Container[Problem] = frozenset(Problem),
) -> Found:
    """Reads every chunk of a knowledge base under the contexts, in order, and again if any has such a problem.

    Raises what `XTraceIntegration` raises.
    """
    reading = _Reading(contexts, integration, kb_id, batch_size, of_concern)
    first = await reading.run(description)
    if not first.bad:
        return Found(first.chunks, (), 0, (), first.unlisted)
    again = await reading.run("Reading again")
    both = sorted(first.bad.keys() & again.bad.keys())
    unsteady = () if again.more else tuple(sorted(first.bad.keys() - again.bad.keys()))
    listed = tuple(again.bad[chunk_id] for chunk_id in both)
    return Found(again.chunks, listed, again.more, unsteady, again.unlisted)


@dataclass(frozen=True, slots=True)
class _Read:
    chunks: int
    bad: dict[int, BadChunk]
    more: int
    unlisted: int


@dataclass(frozen=True, slots=True)
class _Reading:
    contexts: Sequence[ExecutionContext]
    integration: XTraceIntegration
    kb_id: str
    batch_size: int
    of_concern: Container[Problem]

    async def run(self, description: str) -> _Read:
        count, unlisted, more, bad = 0, 0, 0, dict[int, BadChunk]()
        total = sum([await count_chunks(self.integration, self.kb_id, one.id) for one in self.contexts])
        with progress_bar(description, total) as advance:
            for one in self.contexts:
                fields = (*READ_FIELDS, "meta_data", "updated_at")
                async with aclosing(
                    stored_batches(self.integration, self.kb_id, one.id, fields, self.batch_size)
                ) as read:
                    async for batch in read:
                        for chunk in await self._bad_of(one, batch):
                            unlisted += Problem.UNLISTED in chunk.problems
                            if not any(problem in self.of_concern for problem in chunk.problems):
                                continue
                            if len(bad) < MAX_LISTED_CHUNKS:
                                bad[chunk.chunk_id] = chunk
                            else:
                                more += 1
                        count += len(batch)
                        advance(len(batch))
        return _Read(count, bad, more, unlisted)

    async def _bad_of(self, context: ExecutionContext, batch: list[StoredChunk]) -> list[BadChunk]:
        shares = await on_all_cores(lambda part: _bad_of(context, self.kb_id, part), batch)
        return [bad for share in shares for bad in share]


def _bad_of(context: ExecutionContext, kb_id: str, chunks: list[StoredChunk]) -> list[BadChunk]:
    listed = context.accepted.chunks(kb_id, chunks)
    read = read_chunks(context, chunks)
    problems = [
        _problems(context, chunk, bool(valid), content) if counts else (Problem.UNLISTED,)
        for chunk, valid, content, counts in zip(chunks, read.valid, read.contents, listed, strict=True)
    ]
    return [
        BadChunk(chunk["chunk_id"], found, chunk["updated_at"])
        for chunk, found in zip(chunks, problems, strict=True)
        if found
    ]


def _problems(
    context: ExecutionContext, chunk: StoredChunk, vector_is_valid: bool, content: bytes | None
) -> tuple[Problem, ...]:
    found = [] if vector_is_valid else [Problem.VECTOR]
    if content is None:
        found.append(Problem.CONTENT)
    elif not _has_its_metadata(context, chunk, content):
        found.append(Problem.METADATA)
    return tuple(found)


def _has_its_metadata(context: ExecutionContext, chunk: StoredChunk, content: bytes) -> bool:
    """Returns False if the private metadata or a record's hashes do not match. Ignores content of a newer version,
    because it cannot be checked here.
    """
    stored = chunk.get("meta_data", {})
    try:
        unpacked = unpack(content)
        if unpacked.record is not None:
            return metadata_digest(stored) == unpacked.record.visible
        clear_meta_data(context, stored, unpacked.meta_data)
    except ContentTampered:
        return False
    except UnknownContent:
        pass
    return True
