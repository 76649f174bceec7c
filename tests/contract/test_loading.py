"""`DataLoader.load` against the real server: stages overlap, memory is bounded, and no end of a load loses anything."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.recording_proxy import recording_proxy
from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.service.integration import InsertedIds
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders import batches
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
from xtrace_sdk.x_vec.data_loaders.loading import BATCHES_AHEAD
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 24
COUNT = 60
BATCH = 5


def chunk(number: int) -> dict[str, Any]:
    return {"chunk_content": f"text {number}", "meta_data": {"tag1": f"tag {number % 3}"}}


def collection(count: int = COUNT) -> list[dict[str, Any]]:
    return [chunk(i) for i in range(count)]


def vectors(count: int = COUNT) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 2, (COUNT, DIM), dtype=np.uint8)[:count]


class Model:
    """Takes each text's vector from a table; does what the test wants first."""

    def __init__(self, before: Callable[[list[int]], Awaitable[Any]] | None = None) -> None:
        self.asked: list[list[int]] = []
        self._before = before

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        numbers = [int(text.split()[1]) for text in texts]
        self.asked.append(numbers)
        if self._before is not None:
            await self._before(numbers)
        return vectors()[numbers]


class Hooked(XTraceIntegration):
    """Does what the test wants before names are looked up and before chunks are sent."""

    before_names: Callable[[int], Awaitable[Any]] | None = None
    before_storing: Callable[[int], Awaitable[Any]] | None = None
    looked_up = 0
    sent = 0

    async def find_chunk_names(self, *arguments: Any, **named: Any) -> dict[str, int]:
        if self.before_names is not None:
            await self.before_names(self.looked_up)
        self.looked_up += 1
        return await super().find_chunk_names(*arguments, **named)

    async def store_db(self, *arguments: Any, **named: Any) -> InsertedIds:
        if self.before_storing is not None:
            await self.before_storing(self.sent)
        self.sent += 1
        return await super().store_db(*arguments, **named)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[Hooked]:
    async with Hooked(credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url) as service:
        yield service


@pytest.fixture
def loader(context: ExecutionContext, xtrace: Hooked) -> DataLoader:
    return DataLoader(context, xtrace)


async def stored_texts(loader: DataLoader, xtrace: Hooked, kb_id: str) -> list[str]:
    """Every text of the knowledge base, by id."""
    ids = [found["chunk_id"] async for found in xtrace.iter_meta_search(kb_id, {}, loader._context.id)]
    retriever = Retriever(loader._context, xtrace)
    await retriever.nn_search_for_ids(vectors()[0], len(ids), kb_id)
    return [found["chunk_content"] for found in await retriever.retrieve_and_decrypt(sorted(ids), kb_id)]


def texts(count: int = COUNT) -> list[str]:
    return [chunk(i)["chunk_content"] for i in range(count)]


# What is loaded


async def vectors_later() -> AsyncIterator[Any]:
    for vector in vectors():
        await asyncio.sleep(0)
        yield vector


async def itself(vector: Any) -> Any:
    return vector


@pytest.mark.parametrize("source", ["model", "matrix", "lists", "generator", "asynchronous generator", "coroutines"])
async def test_vectors_come_from_a_model_or_ready(source: str, loader: DataLoader, xtrace: Hooked, kb_id: str) -> None:
    sources: dict[str, Callable[[], Any]] = {
        "model": Model,
        "matrix": vectors,
        "lists": lambda: vectors().tolist(),
        "generator": lambda: (vector - 0.5 for vector in vectors().astype(np.float32)),
        "asynchronous generator": vectors_later,
        "coroutines": lambda: [itself(vector) for vector in vectors()],
    }
    assert await loader.load(collection(), sources[source](), kb_id, BATCH) == LoadSummary(COUNT, 0)
    assert await stored_texts(loader, xtrace, kb_id) == texts()
    found = await Retriever(loader._context, xtrace).nn_search_for_ids(vectors()[7], 1, kb_id, include_scores=True)
    assert found == ([8], [0])


async def test_an_asynchronous_generator_is_loaded(loader: DataLoader, xtrace: Hooked, kb_id: str) -> None:
    async def chunks() -> AsyncIterator[dict[str, Any]]:
        for i in range(COUNT):
            await asyncio.sleep(0)
            yield chunk(i)

    assert (await loader.load(chunks(), Model(), kb_id, BATCH)).stored == COUNT
    assert await stored_texts(loader, xtrace, kb_id) == texts()


async def test_a_generator_runs_in_one_thread_and_not_the_loops(loader: DataLoader, kb_id: str) -> None:
    threads = set()

    def chunks() -> Iterator[dict[str, Any]]:
        for i in range(COUNT):
            threads.add(threading.get_ident())
            yield chunk(i)

    await loader.load(chunks(), Model(), kb_id, BATCH)
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_equal_chunks_are_counted_across_batches(loader: DataLoader, xtrace: Hooked, kb_id: str) -> None:
    same = [chunk(1)] * (3 * BATCH)
    assert await loader.load(iter(same), Model(), kb_id, BATCH) == LoadSummary(3 * BATCH, 0)
    assert await loader.load(iter(same), Model(), kb_id, BATCH + 1) == LoadSummary(0, 3 * BATCH)
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 3 * BATCH


async def test_long_texts_make_small_batches(loader: DataLoader, kb_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH_CHARACTERS", 3 * len("text 1"))
    model = Model()
    await loader.load(collection(10), model, kb_id, batch_size=8)
    assert model.asked == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]


async def test_a_finished_load_stands_for_its_collection(loader: DataLoader, kb_id: str) -> None:
    await loader.load(iter(collection()), Model(), kb_id, BATCH)
    kept = await loader.load(iter(collection(COUNT - 2)), Model(), kb_id, BATCH)
    assert await loader.superseded(kept, kb_id) == [COUNT - 1, COUNT]
    assert await loader.superseded(iter(collection(COUNT - 2)), kb_id) == [COUNT - 1, COUNT]


@pytest.mark.parametrize("given", [COUNT - 1, COUNT - BATCH, COUNT + 1, COUNT + BATCH])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_batch_in_which_chunks_and_vectors_part_is_not_stored(
    given: int, asynchronous: bool, loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    async def later() -> AsyncIterator[Any]:
        for i in range(given):
            yield vectors()[i % COUNT]

    ready = later() if asynchronous else (vectors()[i % COUNT] for i in range(given))
    more, fewer = ("vectors", "chunks") if given > COUNT else ("chunks", "vectors")
    with pytest.raises(InvalidArgument, match=f"more {more} than {fewer}"):
        await loader.load(iter(collection()), ready, kb_id, BATCH)
    left_out = BATCH if given > COUNT - BATCH else 2 * BATCH  # after the last batch that fits, only chunks go on
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == COUNT - left_out


@pytest.mark.parametrize("given", [COUNT - 1, COUNT + 1])
async def test_lengths_that_are_known_are_compared_before_anything_is_stored(
    given: int, loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"got {COUNT} chunks but {given} vectors"):
        await loader.load(collection(), [itself(vectors()[i % COUNT]) for i in range(given)], kb_id, BATCH)
    with pytest.raises(InvalidArgument, match=f"got {COUNT} chunks but {given} vectors"):
        await loader.load_data_from_memory(collection(), [itself(vectors()[i % COUNT]) for i in range(given)])
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 0


async def test_a_fault_of_what_follows_a_batch_leaves_the_batch_stored(
    loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    def breaking() -> Iterator[Any]:
        yield from vectors(2 * BATCH)
        raise Stop

    with pytest.raises(Stop):
        await loader.load(iter(collection()), breaking(), kb_id, BATCH)
    assert (await xtrace.get_kb(kb_id)).number_of_vectors == 2 * BATCH


async def test_what_is_no_collection_is_one_clear_error(loader: DataLoader, kb_id: str) -> None:
    for bad, complaint in (
        (7, "collection is 7, expected a list"),
        ([7], "collection is a list, expected a list, each element a mapping"),
        (iter([7]), "chunk 0 .* is a int"),
        ("ab", "collection is a str, expected a list"),
    ):
        with pytest.raises(InvalidArgument, match=complaint):
            await loader.load(bad, Model(), kb_id)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="batch_size is 0"):
        await loader.load(collection(), Model(), kb_id, 0)
    with pytest.raises(InvalidVector, match="vector 17: "):
        await loader.load(collection(), [*vectors()[:17], [2] * DIM, *vectors()[18:]], kb_id, BATCH)


# How it is loaded


async def test_stages_overlap(loader: DataLoader, xtrace: Hooked, kb_id: str) -> None:
    """The first batch is stored only after the fifth was read, the fourth looked up and the third embedded."""
    reached = {name: asyncio.Event() for name in ("read", "looked up", "embedded")}
    loop = asyncio.get_running_loop()

    def chunks() -> Iterator[dict[str, Any]]:
        for i in range(COUNT):
            if i == 4 * BATCH:
                loop.call_soon_threadsafe(reached["read"].set)
            yield chunk(i)

    async def look_up(number: int) -> None:
        if number == 3:
            reached["looked up"].set()

    async def embed(numbers: list[int]) -> None:
        if numbers[0] == 2 * BATCH:
            reached["embedded"].set()

    async def store(number: int) -> None:
        await asyncio.gather(*(event.wait() for event in reached.values()))

    xtrace.before_names, xtrace.before_storing = look_up, store
    async with asyncio.timeout(60):
        assert (await loader.load(chunks(), Model(embed), kb_id, BATCH)).stored == COUNT


async def test_a_generator_is_never_far_ahead_of_what_is_acknowledged(
    loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    acknowledged = 0
    ahead = []

    def chunks() -> Iterator[dict[str, Any]]:
        for i in range(COUNT):
            ahead.append(i - acknowledged)
            yield chunk(i)

    def keep(summary: LoadSummary) -> None:
        nonlocal acknowledged
        acknowledged = summary.stored + summary.known

    async def slowly(number: int) -> None:
        await asyncio.sleep(0.02)

    xtrace.before_storing = slowly
    await loader.load(chunks(), Model(), kb_id, BATCH, on_progress=keep)
    assert acknowledged == COUNT
    assert max(ahead) < BATCHES_AHEAD * BATCH


# How a load ends before its time


class Stop(Exception):
    """What a test breaks a stage with."""


async def fails() -> None:
    raise Stop


def broken_at(stage: str, xtrace: Hooked, act: Callable[[], Awaitable[None]]) -> tuple[Any, Any]:
    """A collection and a model of a load in which the third batch acts that way in one stage."""

    async def at_batch(number: int) -> None:
        if number == 2:
            await act()

    async def chunks() -> AsyncIterator[dict[str, Any]]:
        for i in range(COUNT):
            if stage == "reading" and i == 2 * BATCH:
                await act()
            yield chunk(i)

    async def embed(numbers: list[int]) -> None:
        if stage == "embedding":
            await at_batch(numbers[0] // BATCH)

    if stage == "looking up":
        xtrace.before_names = at_batch
    if stage == "storing":
        xtrace.before_storing = at_batch
    return chunks(), Model(embed)


NOTE = (
    "10 chunks were stored and 0 were there before: load the same collection again to go on, or delete what was stored "
    "with loader.undo(loader.last_load)"
)
STAGES = ["reading", "looking up", "embedding", "storing"]


async def expect_to_go_on(loader: DataLoader, xtrace: Hooked, kb_id: str, stored: int) -> None:
    """The next run stores what is missing, and only that."""
    xtrace.before_names = xtrace.before_storing = None
    model = Model()
    assert await loader.load(collection(), model, kb_id, BATCH) == LoadSummary(COUNT - stored, stored)
    assert [number for batch in model.asked for number in batch] == list(range(stored, COUNT))
    assert await stored_texts(loader, xtrace, kb_id) == texts()


@pytest.mark.parametrize("stage", STAGES)
async def test_a_fault_is_raised_when_the_batches_before_it_are_stored(
    stage: str, loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    chunks, model = broken_at(stage, xtrace, fails)
    with pytest.raises(Stop) as raised:
        await loader.load(chunks, model, kb_id, BATCH)
    assert raised.value.__notes__ == [NOTE]
    await expect_to_go_on(loader, xtrace, kb_id, 2 * BATCH)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_load_that_is_cancelled_says_what_is_stored_and_the_next_goes_on(
    stage: str, loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    hanging = asyncio.Event()
    progress: list[LoadSummary] = []

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    def keep(summary: LoadSummary) -> None:
        progress.append(summary)
        if summary.stored == 2 * BATCH:
            before_stored.set()

    before_stored = asyncio.Event()
    chunks, model = broken_at(stage, xtrace, hang)
    load = asyncio.create_task(loader.load(chunks, model, kb_id, BATCH, on_progress=keep))
    await asyncio.gather(hanging.wait(), before_stored.wait())
    load.cancel()
    with pytest.raises(asyncio.CancelledError) as raised:
        await load
    assert raised.value.__notes__ == [NOTE]
    assert progress == [LoadSummary(BATCH, 0), LoadSummary(2 * BATCH, 0)]
    await expect_to_go_on(loader, xtrace, kb_id, 2 * BATCH)


async def test_a_model_that_is_cancelled_ends_the_load_and_not_only_its_batch(
    loader: DataLoader, xtrace: Hooked, kb_id: str
) -> None:
    async def give_up(numbers: list[int]) -> None:
        if numbers[0] == BATCH:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await loader.load(collection(), Model(give_up), kb_id, BATCH)
    await expect_to_go_on(loader, xtrace, kb_id, BATCH)


async def test_a_generator_in_a_thread_is_left_soon_after_a_load_was_cancelled(loader: DataLoader, kb_id: str) -> None:
    reading, go_on, taken = threading.Event(), threading.Event(), []

    def chunks() -> Iterator[dict[str, Any]]:
        for i in range(COUNT):
            taken.append(i)
            if i == 2:
                reading.set()
                go_on.wait()
            yield chunk(i)

    load = asyncio.create_task(loader.load(chunks(), Model(), kb_id))
    await asyncio.to_thread(reading.wait)
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("xtrace-reading"):
            await asyncio.to_thread(thread.join)
    assert taken == [0, 1, 2]


async def test_what_was_acknowledged_is_not_sent_again(
    context: ExecutionContext, credentials: Credentials, kb_id: str
) -> None:
    async def break_off(numbers: list[int]) -> None:
        if numbers[0] >= 8 * BATCH:
            raise Stop

    async with recording_proxy(credentials.api_url) as recording:

        async def insertions(model: Model) -> int:
            """How many a load sends."""
            recording.data.clear()
            async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=recording.url) as xtrace:
                with suppress(Stop):
                    await DataLoader(context, xtrace).load(collection(), model, kb_id, BATCH)
            return recording.data.count(f"POST /v1/chunk/{credentials.org_id} ".encode())

        assert await insertions(Model(break_off)) == 8
        assert await insertions(Model()) == COUNT // BATCH - 8
        assert await insertions(Model()) == 0
