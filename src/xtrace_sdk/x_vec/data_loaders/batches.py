"""Divides a collection into batches while it is read, so that it may be larger than memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Collection, Iterable, Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_vec.data_loaders.chunks import ChunkReader, PlainChunk

T = TypeVar("T")

Chunks = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]
"""Chunks from the user, in memory or generated while they are read."""
Vectors = Iterable[Any] | AsyncIterable[Any]

BATCH_CHARACTERS: Final = 4 * 1024 * 1024
"""A batch ends with the chunk with which its texts reach this length, however few chunks it has."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive chunks, and their vectors if these were given."""

    chunks: list[PlainChunk]
    vectors: list[Any] | None = None

    def without(self, base_names: Collection[str]) -> "Batch":
        """Returns the batch without the chunks with these base names."""
        if not base_names:
            return self
        kept = [i for i, chunk in enumerate(self.chunks) if chunk.base_name not in base_names]
        chunks = [self.chunks[i] for i in kept]
        if self.vectors is None:
            return Batch(chunks)
        close(
            [vector for chunk, vector in zip(self.chunks, self.vectors, strict=True) if chunk.base_name in base_names]
        )
        return Batch(chunks, [self.vectors[i] for i in kept])


async def batches(
    collection: Chunks, reader: ChunkReader, size: int, vectors: Vectors | None = None, *, is_strict: bool = False
) -> AsyncGenerator[Batch, None]:
    """Yields the collection in batches of at most `size` chunks, with their vectors if `vectors` is given.

    Asynchronous iterables are read in the event loop, all others in one thread from the first chunk to the last. Raises
    what `ChunkReader` and the iterables raise, and `InvalidArgument` if the numbers of chunks and vectors differ: at
    once if both have a length, else instead of the batch after which only one of them continues. Texts that cannot be
    loaded are skipped with their vectors, or raised if strict.
    """
    check_same_length(collection, vectors)
    thread = ThreadPoolExecutor(1, "xtrace-reading")
    chunk_source = _Source(collection, thread)
    vector_source = _Source(() if vectors is None else vectors, thread)
    try:
        while True:
            batch = _Filling(reader, size, is_strict)
            await chunk_source.read(batch.add_chunk)
            if vectors is not None:
                await vector_source.read(batch.add_vector)
                batch.check_same_end(await chunk_source.has_more(), await vector_source.has_more())
            if not batch.chunks:
                return
            if filled := batch.filled(vectors is not None):
                yield filled
    finally:
        chunk_source.stopped = vector_source.stopped = True
        thread.shutdown(wait=False, cancel_futures=True)


class _Source(Generic[T]):
    """Items that are read on demand."""

    def __init__(self, items: Iterable[T] | AsyncIterable[T], thread: ThreadPoolExecutor) -> None:
        try:
            self._items = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        except TypeError:
            raise InvalidArgument(f"got {type(items).__name__}, expected an iterable of chunks or of vectors") from None
        self._thread = thread
        self._ahead: list[T] = []
        """An item that was read but not yet consumed."""
        self._fault: Exception | None = None
        self.stopped = False
        """Whether the result of the thread is no longer needed."""

    async def has_more(self) -> bool:
        """Whether another item follows. An exception of the iterable counts as one, and the next `read` raises it."""

        def keep(item: T) -> bool:
            self._ahead.append(item)
            return False

        try:
            await self._read_on(keep)
        except Exception as error:
            self._fault = error
        return bool(self._ahead) or self._fault is not None

    async def read(self, take: Callable[[T], bool]) -> None:
        """Passes items to `take` while it returns True and there are any."""
        if self._fault is not None:
            raise self._fault
        if not self._ahead or take(self._ahead.pop()):
            await self._read_on(take)

    async def _read_on(self, take: Callable[[T], bool]) -> None:
        if isinstance(self._items, AsyncIterator):
            async for item in self._items:
                if not take(item):
                    return
        else:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._read, self._items, take)

    def _read(self, items: Iterable[T], take: Callable[[T], bool]) -> None:
        for item in items:
            if not take(item) or self.stopped:
                return


class _Filling:
    """A batch that is being read."""

    def __init__(self, reader: ChunkReader, size: int, is_strict: bool) -> None:
        self.chunks: list[PlainChunk | None] = []
        """None for a skipped chunk."""
        self._is_strict = is_strict
        self.vectors: list[Any] = []
        self._reader = reader
        self._size = size
        self._characters = 0

    def add_chunk(self, item: Mapping[str, Any]) -> bool:
        """Adds a chunk; returns whether there is room for more."""
        chunk = self._reader.read_or_pass_over(item, is_strict=self._is_strict)
        self.chunks.append(chunk)
        self._characters += 0 if chunk is None else len(chunk.content)
        return len(self.chunks) < self._size and self._characters < BATCH_CHARACTERS

    def add_vector(self, vector: Any) -> bool:
        """Adds a vector; returns whether chunks without a vector are left."""
        self.vectors.append(vector)
        return len(self.vectors) < len(self.chunks)

    def filled(self, has_vectors: bool) -> Batch | None:
        """Returns the batch without skipped chunks; None if nothing is left."""
        kept = [i for i, chunk in enumerate(self.chunks) if chunk is not None]
        close([vector for i, vector in enumerate(self.vectors) if self.chunks[i] is None])
        chunks = [chunk for chunk in self.chunks if chunk is not None]
        return Batch(chunks, [self.vectors[i] for i in kept] if has_vectors else None) if chunks else None

    def check_same_end(self, more_chunks: bool, more_vectors: bool) -> None:
        """Raises `InvalidArgument` unless every chunk has a vector, and either both continue after the batch or
        neither."""
        if len(self.vectors) == len(self.chunks) and more_chunks == more_vectors:
            return
        close(self.vectors)
        has_more_vectors = more_vectors or len(self.vectors) > len(self.chunks)
        more, fewer = ("vectors", "chunks") if has_more_vectors else ("chunks", "vectors")
        raise InvalidArgument(
            f"got more {more} than {fewer}, expected one vector for each chunk: one is missing or duplicated, "
            "perhaps in a batch that is already stored, whose chunks then have wrong vectors"
        )


def check_same_length(collection: Any, vectors: Any) -> None:
    """Raises `InvalidArgument` if both have a length and these differ; then closes coroutines among the vectors."""
    chunks, given = length_of(collection), length_of(vectors)
    if chunks is not None and given is not None and chunks != given:
        close(vectors)
        raise InvalidArgument(f"got {chunks} chunks but {given} vectors; the counts must match")


def length_of(collection: Any) -> int | None:
    """Returns the number of items; None if only reading them tells."""
    return len(collection) if isinstance(collection, Sized) else None


def close(vectors: Iterable[Any]) -> None:
    """Closes coroutines that will not be awaited, so that Python does not warn about them."""
    for vector in vectors:
        if asyncio.iscoroutine(vector):
            vector.close()
