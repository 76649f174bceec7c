"""What a load stored can be taken back, what it cannot load is named, and what looks like a mistake is refused."""

import pickle
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_sdk import sync
from xtrace_sdk.errors import InvalidArgument, ProviderFault, TextRefused
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.notices import NotUndone, PassedOver
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.chunks import PassedOverText
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM = 24
COUNT = 12
BATCH = 4


def chunks(count: int = COUNT) -> list[dict[str, Any]]:
    return [{"chunk_content": f"text {i}"} for i in range(count)]


def vector(number: int) -> NDArray[np.uint8]:
    return np.array([number >> bit & 1 for bit in range(DIM)], dtype=np.uint8)


def vectors(count: int = COUNT) -> list[NDArray[np.uint8]]:
    return [vector(i) for i in range(count)]


class Model:
    """Embeds `text 5` as the bits of 5, and refuses some numbers, or everything."""

    def __init__(self, *refused: int, works: bool = True) -> None:
        self.refused = refused
        self.works = works
        self.calls = 0

    async def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        self.calls += 1
        numbers = [int(text.split()[1]) if " " in text else 0 for text in texts]
        if not self.works or set(numbers) & set(self.refused) - {0}:
            raise TextRefused("the input is too long")
        return np.array([vector(number) for number in numbers])


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(
        org_id=credentials.org_id,
        api_key=credentials.api_key,
        admin_key=credentials.admin_key,
        api_url=credentials.api_url,
    ) as integration:
        yield integration


@pytest.fixture
def loader(context: ExecutionContext, xtrace: XTraceIntegration) -> DataLoader:
    return DataLoader(context, xtrace)


async def count(xtrace: XTraceIntegration, kb_id: str) -> int:
    return (await xtrace.get_kb(kb_id)).number_of_vectors


# Taking back


async def test_a_load_with_shifted_vectors_is_taken_back(
    loader: DataLoader, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await loader.load(chunks(2), iter(vectors(2)), kb_id)
    assert loader.last_load == LoadSummary(2)
    one_too_many = [vector(99), *vectors()]
    with pytest.raises(InvalidArgument, match="more vectors than chunks") as raised:
        await loader.load(iter(chunks()), iter(one_too_many), kb_id, BATCH)
    assert raised.value.__notes__[0].startswith("6 chunks were stored and 2 were there before")
    assert loader.last_load is not None
    assert list(loader.last_load.inserted_ids) == [3, 4, 5, 6, 7, 8]
    assert await loader.undo(loader.last_load) == 6
    assert await loader.undo(loader.last_load) == 0
    assert await count(xtrace, kb_id) == 2
    assert (await loader.load(chunks(), vectors(), kb_id)).inserted == COUNT - 2


async def test_what_was_replaced_stays_and_undoing_says_so(
    loader: DataLoader, xtrace: XTraceIntegration, kb_id: str
) -> None:
    await loader.load(chunks(2), [vector(50), vector(51)], kb_id)
    summary = await loader.load(chunks(3), vectors(3), kb_id, on_conflict="replace")
    with pytest.warns(NotUndone, match="2 chunks were replaced"):
        assert await loader.undo(summary) == 1
    found = await Retriever(loader._context, xtrace).nn_search_for_ids(vector(1), 1, kb_id, include_scores=True)
    assert found == ([2], [0])


async def test_a_loader_that_has_not_loaded_has_nothing_to_undo(loader: DataLoader) -> None:
    assert loader.last_load is None
    assert await loader.undo(LoadSummary()) == 0


# What cannot be loaded


UNREADABLE = {2: "   \n\t", 5: "half a character \ud800", 6: ""}


def with_unreadable() -> list[dict[str, Any]]:
    return [{"chunk_content": UNREADABLE.get(i, f"text {i}")} for i in range(COUNT)]


@pytest.mark.parametrize("source", ["model", "vectors", "generators"])
async def test_blank_and_unreadable_texts_are_passed_over_with_their_vectors(
    source: str, loader: DataLoader, xtrace: XTraceIntegration, kb_id: str
) -> None:
    embedding: Any = {"model": Model(), "vectors": vectors(), "generators": iter(vectors())}[source]
    collection = iter(with_unreadable()) if source == "generators" else with_unreadable()
    with pytest.warns(PassedOver, match=r"3 of the collection's chunks were skipped \(chunk 2: its text is blank"):
        summary = await loader.load(collection, embedding, kb_id, BATCH)
    assert summary.inserted == COUNT - 3
    assert [one.position for one in summary.passed_over] == [2, 5, 6]
    assert summary.passed_over[1] == PassedOverText(5, "its text or metadata contains unpaired surrogates")
    retriever = Retriever(loader._context, xtrace)
    for number in (7, 11):
        (best,) = await retriever.search(vector(number), 1, kb_id)
        assert (best.text, best.distance) == (f"text {number}", 0)


async def test_a_batch_of_which_nothing_is_left_does_not_end_a_load(loader: DataLoader, kb_id: str) -> None:
    collection = [*chunks(BATCH), *[{"chunk_content": " "}] * BATCH, *chunks(COUNT)[BATCH:]]
    with pytest.warns(PassedOver):
        assert (await loader.load(iter(collection), Model(), kb_id, BATCH)).inserted == COUNT


async def test_texts_that_a_model_refuses_are_found_and_passed_over(
    loader: DataLoader, xtrace: XTraceIntegration, kb_id: str
) -> None:
    for left in (COUNT - 2, 0):  # the second time only the refused ones are missing
        model = Model(3, 10)
        with pytest.warns(PassedOver, match="chunk 3: the input is too long; chunk 10: the input"):
            summary = await loader.load(chunks(), model, kb_id)
        assert (summary.inserted, summary.known) == (left, COUNT - 2 - left)
        assert list(summary.passed_over) == [PassedOverText(i, "the input is too long") for i in (3, 10)]
    assert (await loader.load(chunks(), Model(), kb_id)).inserted == 2
    assert await loader.superseded(summary, kb_id) == []


async def test_a_model_that_refuses_everything_fails_the_load(loader: DataLoader, kb_id: str) -> None:
    model = Model(works=False)
    with pytest.raises(ProviderFault, match="too long"):
        await loader.load(chunks(), model, kb_id)
    assert model.calls == 2


async def test_a_strict_load_names_the_first_text_that_cannot_be_loaded(
    loader: DataLoader, xtrace: XTraceIntegration, kb_id: str
) -> None:
    with pytest.raises(InvalidArgument, match="chunk 2 of the collection cannot be loaded: its text is blank"):
        await loader.load(with_unreadable(), vectors(), kb_id, strict=True)
    with pytest.raises(TextRefused, match="chunk 10 of the collection: the input is too long"):
        await loader.load(chunks(), Model(10), kb_id, strict=True)
    assert await count(xtrace, kb_id) == 0


# What is called outdated


async def test_what_was_read_already_is_not_taken_for_an_empty_collection(loader: DataLoader, kb_id: str) -> None:
    async def later() -> AsyncIterator[dict[str, Any]]:
        for chunk in chunks():
            yield chunk

    for collection in (iter(chunks()), later()):
        await loader.load(collection, Model(), kb_id)
        with pytest.raises(InvalidArgument, match="pass the summary that the load returned"):
            await loader.superseded(collection, kb_id)


async def test_a_load_that_failed_does_not_stand_for_its_collection(loader: DataLoader, kb_id: str) -> None:
    await loader.load(chunks(), Model(), kb_id)
    with pytest.raises(InvalidArgument):
        await loader.load(iter(chunks(BATCH)), iter(vectors(BATCH - 1)), kb_id)
    assert loader.last_load is not None
    with pytest.raises(InvalidArgument, match="did not finish"):
        await loader.superseded(loader.last_load, kb_id)


async def test_not_everything_is_called_outdated(loader: DataLoader, kb_id: str) -> None:
    await loader.load(chunks(), Model(), kb_id)
    for collection in ([], [{"chunk_content": "another"}]):
        with pytest.raises(InvalidArgument, match=f"all {COUNT} chunks would be outdated"):
            await loader.superseded(collection, kb_id)
    assert await loader.superseded(chunks(COUNT - 1), kb_id) == [COUNT]


# What other libraries give


async def test_texts_of_numpy_are_texts(loader: DataLoader, xtrace: XTraceIntegration, kb_id: str) -> None:
    collection = [{"chunk_content": np.str_("text 1"), "meta_data": {"tag1": np.str_("a"), "facets": [np.str_("b")]}}]
    assert (await loader.load(collection, Model(), kb_id)).inserted == 1
    plain = [{"chunk_content": "text 1", "meta_data": {"tag1": "a", "facets": ["b"]}}]
    assert (await loader.load(plain, Model(), kb_id)).known == 1
    (found,) = await Retriever(loader._context, xtrace).search(vector(1), 1, kb_id, meta_filter={"tag1": np.str_("a")})
    assert (found.text, found.meta_data) == ("text 1", {"tag1": "a", "facets": ["b"]})
    assert await loader.delete_chunks_by_meta({"tag1": np.str_("a")}, kb_id) == 1


async def test_classes_that_do_not_mix_say_so(context: ExecutionContext) -> None:
    synchronous = sync.XTraceIntegration("org", "key", api_url="http://127.0.0.1:1")
    for make in (DataLoader, Retriever):
        with pytest.raises(InvalidArgument, match=r"but not that of xtrace_sdk\.sync: .* import all of them"):
            make(context, synchronous)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be pickled or copied: create it in each process"):
        pickle.dumps(synchronous)
    with pytest.raises(InvalidArgument, match="passphrase is a bytes, expected a text"):
        PassphraseKeyProvider(b"passphrase")  # type: ignore[arg-type]
