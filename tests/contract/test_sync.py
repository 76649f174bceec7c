"""The synchronous twins against the real server: in threads, beside a running loop, in forked children, interrupted."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.script import Ended, run_script
from xtrace_sdk.errors import KnowledgeBaseNotFound
from xtrace_sdk.integrations import xtrace as asynchronous
from xtrace_sdk.sync import DataLoader, ExecutionContext, Retriever, XTraceIntegration, rotate, verify
from xtrace_sdk.sync._background import run
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_server.credentials import Credentials

DATABASES = ("sqlite",)
"""It is about threads and processes of the client, which do not depend on the server's database."""

DIM = 24
COUNT = 30
PROVIDER = PassphraseKeyProvider("passphrase", insecure_log2_n=1)


class Signs:
    """A model of a caller's own, with a plain method: the bits of a text's first characters."""

    def bin_embed_many(self, texts: Sequence[str]) -> NDArray[np.uint8]:
        codes = [[ord(c) for c in text.ljust(DIM // 8)[: DIM // 8]] for text in texts]
        return np.unpackbits(np.array(codes, dtype=np.uint8), axis=1)


COLLECTION: list[dict[str, Any]] = [
    {"chunk_content": f"{i:03} of them", "meta_data": {"tag1": f"tag {i % 3}"}} for i in range(COUNT)
]


@pytest.fixture
def context(tmp_path: Path) -> ExecutionContext:
    return ExecutionContext.create(
        PROVIDER, "paillier_lookup", DIM, 256, path=tmp_path / "context.json", insecure_allow_weak_parameters=True
    )


@pytest.fixture
def xtrace(credentials: Credentials) -> Iterator[XTraceIntegration]:
    with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as integration:
        yield integration


@pytest.fixture
def kb_id(xtrace: XTraceIntegration, context: ExecutionContext) -> str:
    """A knowledge base with the collection in it."""
    kb_id = xtrace.create_kb("kb").id
    assert DataLoader(context, xtrace).load(COLLECTION, Signs(), kb_id).stored == COUNT
    return kb_id


@pytest.fixture
def environment(credentials: Credentials, kb_id: str, tmp_path: Path) -> dict[str, str]:
    """What a script finds the service, the knowledge base and the context by."""
    return {
        "XTRACE_ORG_ID": credentials.org_id,
        "XTRACE_API_KEY": credentials.api_key,
        "XTRACE_API_URL": credentials.api_url,
        "XTRACE_ADMIN_KEY": credentials.admin_key,
        "KB_ID": kb_id,
        "CONTEXT": str(tmp_path / "context.json"),
    }


def script(code: str, environment: dict[str, str], interrupt_after: str = "") -> Ended:
    preface = """
        import os, threading
        from contract.test_sync import COLLECTION, Signs
        from xtrace_sdk.sync import DataLoader, ExecutionContext, Retriever, XTraceIntegration

        kb_id = os.environ["KB_ID"]
        context = ExecutionContext.load_from_disk(
            "passphrase", os.environ["CONTEXT"], insecure_allow_weak_encryption=True
        )
        xtrace = XTraceIntegration()
    """
    return run_script(preface, code, interrupt_after=interrupt_after, **environment)


def test_search_returns_ready_results(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> None:
    (result,) = Retriever(context, xtrace, Signs()).search("007", k=1, kb_id=kb_id)
    assert (result.chunk_id, result.text, result.distance) == (8, "007 of them", 0)


def test_errors_are_those_of_the_asynchronous_calls(xtrace: XTraceIntegration, context: ExecutionContext) -> None:
    with pytest.raises(KnowledgeBaseNotFound):
        DataLoader(context, xtrace).load(COLLECTION, Signs(), "unknown")


def test_vectors_may_be_coroutines(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> None:
    async def vector() -> NDArray[np.uint8]:
        await asyncio.sleep(0)
        (bits,) = Signs().bin_embed_many(["new"])
        return np.asarray(bits)

    loader = DataLoader(context, xtrace)
    index, db = loader.load_data_from_memory([{"chunk_content": "new"}], [vector()])
    assert loader.dump_db(db, index, kb_id) == [COUNT + 1]
    assert Retriever(context, xtrace).nn_search_for_ids(vector(), k=1, kb_id=kb_id) == [COUNT + 1]


def test_many_results_come_one_by_one(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> None:
    found = xtrace.iter_meta_search(kb_id, {"tag1": "tag 1"}, context.id, page_size=4)
    assert [chunk["chunk_id"] for chunk in found] == list(range(2, COUNT + 1, 3))


def test_a_collection_may_be_made_by_synchronous_calls(
    xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str
) -> None:
    other = xtrace.create_kb("copy").id
    retriever = Retriever(context, xtrace)

    def copied() -> Iterator[dict[str, Any]]:
        for stored in xtrace.iter_meta_search(kb_id, {"tag1": "tag 1"}, context.id, page_size=4):
            (plain,) = retriever.retrieve_and_decrypt([stored["chunk_id"]], kb_id)
            yield {"chunk_content": plain["chunk_content"], "meta_data": plain["meta_data"]}

    assert DataLoader(context, xtrace).load(copied(), Signs(), other, batch_size=3).stored == COUNT // 3
    assert verify(context, xtrace, other).chunks == COUNT // 3


def test_vectors_may_take_the_place_of_a_model(xtrace: XTraceIntegration, context: ExecutionContext) -> None:
    kb_id = xtrace.create_kb("vectors").id
    bits = Signs().bin_embed_many([chunk["chunk_content"] for chunk in COLLECTION])
    assert DataLoader(context, xtrace).load(COLLECTION, bits, kb_id).stored == COUNT
    assert Retriever(context, xtrace, Signs()).search("007", k=1, kb_id=kb_id)[0].chunk_id == 8


def test_threads_share_the_objects(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> None:
    retriever = Retriever(context, xtrace, Signs())
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda i: retriever.search(f"{i:03}", k=1, kb_id=kb_id), range(COUNT)))
    assert [results[0].chunk_id for results in found] == [i + 1 for i in range(COUNT)]


async def test_calls_work_in_a_notebook_and_in_a_worker_thread(
    xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str
) -> None:
    retriever = Retriever(context, xtrace, Signs())
    assert retriever.search("003", k=1, kb_id=kb_id)[0].chunk_id == 4  # a loop runs in this thread, as in a notebook
    results = await asyncio.to_thread(retriever.search, "004", 1, kb_id)
    assert results[0].chunk_id == 5


def test_an_asynchronous_integration_serves_too(
    credentials: Credentials, context: ExecutionContext, kb_id: str
) -> None:
    given = asynchronous.XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url)
    retriever = Retriever(context, given, Signs())  # type: ignore[arg-type]
    assert retriever.search("003", k=1, kb_id=kb_id)[0].chunk_id == 4
    run(given.aclose())


def test_contexts_are_kept_by_the_service_and_rotated(
    xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str
) -> None:
    context_id = context.save_to_remote(xtrace)
    restored = ExecutionContext.load_from_remote("passphrase", context_id, xtrace, insecure_allow_weak_encryption=True)
    assert (type(restored), restored) == (ExecutionContext, context)

    successor = restored.successor(PROVIDER, key_len=256, insecure_allow_weak_parameters=True)
    successor.save_to_remote(xtrace)
    assert type(successor.predecessor) is ExecutionContext
    assert rotate(successor, xtrace, remove_old=True).total == COUNT
    assert Retriever(successor, xtrace, Signs()).search("007", k=1, kb_id=kb_id)[0].text == "007 of them"


def test_a_script_that_closes_nothing_ends_without_a_word(environment: dict[str, str]) -> None:
    code = """
        (result,) = Retriever(context, xtrace, Signs()).search("007", k=1, kb_id=kb_id)
        left = xtrace.iter_meta_search(kb_id, {}, context.id, page_size=4)
        print(result.text, next(left)["chunk_id"])
    """
    assert script(code, environment) == (0, "007 of them 1\n", "")


def test_what_is_dropped_without_being_closed_is_closed(environment: dict[str, str]) -> None:
    code = """
        import gc

        def search():
            return Retriever(context, XTraceIntegration(), Signs()).search("007", k=1, kb_id=kb_id)

        print(*(search()[0].text for _ in range(2)), sep=", ")
        gc.collect()
    """
    assert script(code, environment) == (0, "007 of them, 007 of them\n", "")


def test_a_forked_child_and_its_parent_both_go_on(environment: dict[str, str]) -> None:
    code = """
        retriever = Retriever(context, xtrace, Signs())
        def search(text):
            print(retriever.search(text, k=1, kb_id=kb_id)[0].text)
        search("001")
        if not (child := os.fork()):
            search("002")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        search("003")
    """
    assert script(code, environment) == (0, "001 of them\n002 of them\n003 of them\n", "")


def test_ctrl_c_ends_a_load_which_then_goes_on(environment: dict[str, str]) -> None:
    code = """
        released = threading.Event()

        class Slow(Signs):
            def bin_embed_many(self, texts):
                print("embedding", flush=True)
                released.wait(50)
                return super().bin_embed_many(texts)

        new = [{"chunk_content": f"new {i}"} for i in range(10)]
        loader = DataLoader(context, xtrace)
        try:
            loader.load(new, Slow(), kb_id)
        except KeyboardInterrupt as interrupt:
            print(interrupt)
            assert not released.is_set()
            released.set()
            summary = loader.load(new, Signs(), kb_id)
            print(summary.stored + summary.known)
    """
    status, out, err = script(code, environment, interrupt_after="embedding")
    said, total = out.splitlines()
    assert (status, total, err) == (0, "10", "")
    assert said == (
        "0 chunks were stored and 0 were there before: load the same collection again to go on, "
        "or delete what was stored with loader.undo(loader.last_load)"
    )
