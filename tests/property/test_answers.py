"""Whatever a service answers to whatever call, the client says so in its own words, soon, and without much memory.

A client in a process of its own, with little memory, makes every call of the SDK against a real server behind a proxy
that changes answers or makes them up. Only an `XTraceError`, or a result, may come of it.

`XTRACE_TEST_ANSWERS` asks for more answers than the few of every run, and for others each time.
"""

import asyncio
import inspect
import json
import os
import random
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools.sync_twins import TWINS, members

from support import limited_client
from support.by_blocks import sealed
from support.hostile_server import Exchange, Hostile, hostile_server
from support.lies import BOMBS, HEADERS, KINDS, RAW, saying
from support.limited_client import CALLS, DIM, MAX_ANSWER_BYTES, VECTORS, collection
from support.service import LiveService
from xtrace_core.frames import MEDIA_TYPE
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.collection.record import Record
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.keys.key_file import KeyFileProvider

DATABASES = ("sqlite",)
"""The answers are changed on their way, wherever they come from."""
FULL = bool(os.environ.get("XTRACE_TEST_FULL"))
EXAMPLES = int(os.environ.get("XTRACE_TEST_ANSWERS", "200" if FULL else "50"))
ALL = -1
LONGEST_S = 100
"""A call, retries and pages and all."""
MORE_KIB = (20 * MAX_ANSWER_BYTES >> 10) + 24 * 1024
"""What a call may take beside what the process has had before: the docs say 20 times an answer."""
SENDS_NOTHING = {
    "XTraceIntegration.__aenter__",
    "XTraceIntegration.__aexit__",
    "XTraceIntegration.aclose",
    "XTraceIntegration.close",
    "Collection.clear_local_index",
    "DataLoader.load_data_from_memory",
    "DataLoader.load_data_from_memory_batch",
    "Embedding.aclose",
    "InferenceClient.aclose",
    "Retriever.clear_local_index",
}
INTERFACES = {"ContextStore", "NamedContextStore", "Embedder", "FloatEmbedder", "LanguageModel"}


def is_asynchronous(member: Any) -> bool:
    function = inspect.unwrap(member.__func__ if isinstance(member, (classmethod, staticmethod)) else member)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def public_calls() -> Iterator[str]:
    for module, names in TWINS.items():
        for name in set(names) - INTERFACES:
            thing = getattr(sys.modules.get(module) or __import__(module, fromlist=[name]), name)
            if inspect.isclass(thing):
                yield from (f"{name}.{one}" for one, member in members(thing).items() if is_asynchronous(member))
            else:
                yield name


def test_every_public_call_is_made() -> None:
    assert set(public_calls()) - SENDS_NOTHING == {name for name in CALLS if " " not in name}


class Client:
    """The process."""

    def __init__(self, world: dict[str, Any]) -> None:
        self._world = world
        self._start()

    def _start(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, limited_client.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            bufsize=1,
        )
        self._say(self._world)

    def _say(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def call(self, name: str, url: str) -> dict[str, Any]:
        """How the call ended; where the process ended, or did not answer in time, another one is started."""
        self._say({"call": name, "url": url})
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], LONGEST_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            status = self._process.poll()
            self.stop()
            self._start()
            return {"bug": f"no answer within {LONGEST_S} s (the process ended with status {status})"}
        ended: dict[str, Any] = json.loads(line)
        return ended

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Liars:
    """The proxies, one of which forbids frames, in a thread with an event loop of its own."""

    def __init__(self, real_url: str) -> None:
        self._call = ""
        self._lie: Callable[[Exchange, int], None] = _no_lie
        self._number = 0
        self._real_url = real_url
        self._hostile: list[Hostile] = []
        self._loop = asyncio.new_event_loop()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._ready.result(timeout=60)

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        async with AsyncExitStack() as stack:
            for frames_allowed in (True, False):
                hostile = await stack.enter_async_context(hostile_server(self._real_url, frames_allowed))
                hostile.forwards = lambda exchange: made_up(exchange, self._call) is None
                hostile.lie = self._tell
                self._hostile.append(hostile)
            self._ready.set_result(None)
            await self._end.wait()

    def _tell(self, exchange: Exchange) -> None:
        if (answer := made_up(exchange, self._call)) is not None:
            exchange.json = answer
        self._lie(exchange, self._number)
        self._number += 1

    def answer(self, call: str, frames_allowed: bool, lie: Callable[[Exchange, int], None] | None = None) -> str:
        """From now on changes the answers to this call as the lie does, which is told their number; gives the URL."""
        self._call, self._lie, self._number = call, lie or _no_lie, 0
        for hostile in self._hostile:
            hostile.exchanges.clear()
        return self._hostile[not frames_allowed].url

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()


def _no_lie(exchange: Exchange, number: int) -> None:
    """The truth."""


def made_up(exchange: Exchange, call: str) -> Any:
    """What the real server is not requested: vectors, and a rotation's writes, which would leave nothing to the next.

    None for all else.
    """
    vector = [0.5, -0.25, 1.0, -1.0]
    if exchange.target.endswith("/api/embed"):
        return {"model": "model", "embeddings": [vector for _ in exchange.body["input"]]}
    if exchange.target.endswith("/embeddings"):
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, _ in enumerate(exchange.body["input"])]
        return {"object": "list", "data": data, "model": "model"}
    if exchange.target.endswith("/chat/completions"):
        return {"object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": "answer"}}]}
    if call == "rotate" and exchange.is_for("PUT chunk"):
        return {"updated_count": 2}
    return None


@pytest.fixture(scope="module")
def world(live_service: LiveService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is stored, as the client is told."""
    own, folder = live_service.new_organisation("own"), tmp_path_factory.mktemp("client")
    provider = KeyFileProvider.create(folder / "key")

    def new_context(path: Path, **options: Any) -> ExecutionContext:
        return ExecutionContext.create(
            provider, "paillier_lookup", DIM, 256, path=path, insecure_allow_weak_parameters=True, **options
        )

    context = new_context(folder / "context", private_metadata=["tag2"])
    blocks = ExecutionContext.create(provider, "lattice", DIM, path=folder / "blocks")
    old = new_context(folder / "old")
    old.successor(provider, None, 256, folder / "successor", insecure_allow_weak_parameters=True)

    async def load() -> dict[str, Any]:
        async with XTraceIntegration(own.org_id, own.api_key, own.admin_key, own.api_url) as xtrace:
            names = ("kb", "old", "records", "blocks")
            kb_id, old_kb_id, records, blocks_kb_id = [(await xtrace.create_kb(name)).id for name in names]
            await DataLoader(context, xtrace).load(collection("text"), list(VECTORS), kb_id)
            await DataLoader(old, xtrace).load(collection("old"), list(VECTORS), old_kb_id)
            vector = [float(bit) - 0.5 for bit in VECTORS[2]]
            stored = [Record(id_, f"text {id_}", {"topic": "cats"}, vector) for id_ in "ab"]
            await Collection(xtrace, context, records).upsert(stored)
            await DataLoader(blocks, xtrace).load(collection("blocks"), list(VECTORS), blocks_kb_id)
            await xtrace.add_index_segment(kb_id, context.id, "records", b"segment")
            block_id = await sealed(blocks, xtrace, blocks_kb_id, [1, 2, 3, 4])
            await context.save_to_remote(xtrace)
            (key,) = [one for one in await xtrace.list_api_keys() if own.api_key.startswith(one.first_n)]
            ids = {"kb_id": kb_id, "old_kb_id": old_kb_id, "records_kb_id": records, "blocks_kb_id": blocks_kb_id}
            return {**ids, "block_id": block_id, "key_hash": key.hash}

    return {
        "org_id": own.org_id,
        "api_key": own.api_key,
        "admin_key": own.admin_key,
        "url": own.api_url,
        "key_file": str(folder / "key"),
        "context_file": str(folder / "context"),
        "successor_file": str(folder / "successor"),
        "blocks_file": str(folder / "blocks"),
        "context_id": context.id,
        **asyncio.run(load()),
    }


@pytest.fixture(scope="module")
def liars(world: dict[str, Any]) -> Iterator[Liars]:
    liars = Liars(world["url"])
    yield liars
    liars.stop()


@pytest.fixture(scope="module")
def client(world: dict[str, Any], liars: Liars) -> Iterator[Client]:
    client = Client(world)
    yield client
    client.stop()


REFUSED = {
    "XTraceIntegration.delete_exec_context": "ContextNotFound",
    "XTraceIntegration.retire_exec_context": "ContextNotFound",
    "XTraceIntegration.seal_block": "BlockOutdated",
    "XTraceIntegration.delete_kb": "KnowledgeBaseNotFound",
    "XTraceIntegration.revoke_api_key": "KeyNotFound",
    "rotate": "InvalidAnswer",
}
"""What refusal the real server gives, or the client for a server that says what is not true."""


@pytest.mark.parametrize("name", CALLS)
def test_without_a_lie_every_call_succeeds(name: str, client: Client, liars: Liars) -> None:
    ended = client.call(name, liars.answer(name, frames_allowed=True))
    assert "bug" not in ended, ended["bug"]
    assert (ended["ended"] if ended["said"] else "") == REFUSED.get(name, ""), ended["said"]


def check(client: Client, liars: Liars, name: str, frames_allowed: bool, lie: Callable[[Exchange, int], None]) -> None:
    """Makes the call, of whose answers `lie` changes each as it likes, and looks at what came of it."""
    ended = client.call(name, liars.answer(name, frames_allowed, lie))
    assert "bug" not in ended, ended["bug"]
    assert ended["more_kib"] < MORE_KIB
    assert len(ended["said"]) < 3000
    assert "\x1b" not in ended["said"]


@pytest.mark.parametrize("status", [200, 302, 503])
@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_any_header_is_read_or_refused(header: dict[str, str], status: int, client: Client, liars: Liars) -> None:
    def lie(exchange: Exchange, number: int) -> None:
        exchange.status, exchange.more_headers = status, header

    check(client, liars, "XTraceIntegration.list_kbs", True, lie)


@pytest.mark.parametrize("name", ["XTraceIntegration.list_kbs", "Retriever.nn_search_for_ids"])
@pytest.mark.parametrize("said", RAW, ids=range(len(RAW)))
def test_what_is_no_http_is_refused(said: bytes, name: str, client: Client, liars: Liars) -> None:
    def lie(exchange: Exchange, number: int) -> None:
        exchange.raw = saying(said)

    check(client, liars, name, True, lie)


@pytest.mark.parametrize(("bomb", "name"), [(bomb, name) for bomb, one in BOMBS.items() for name in one.calls])
def test_no_answer_takes_more_memory_than_its_length_allows(bomb: str, name: str, client: Client, liars: Liars) -> None:
    chosen, told = BOMBS[bomb], 0
    answer = chosen.answer(MAX_ANSWER_BYTES)
    assert 0.8 * chosen.most < len(answer) <= chosen.most

    def lie(exchange: Exchange, number: int) -> None:
        nonlocal told
        if exchange.is_for(chosen.endpoint):
            exchange.status, exchange.content_type, exchange.answer = 200, chosen.kind, answer
            told += 1

    check(client, liars, name, chosen.kind == MEDIA_TYPE, lie)
    assert told


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="XTRACE_TEST_ANSWERS" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    name=st.sampled_from(list(CALLS)),
    kind=st.sampled_from(list(KINDS)),
    frames_allowed=st.booleans(),
    which=st.sampled_from((ALL, ALL, 0, 1, 2, 3)),
    seed=st.integers(0, 2**32),
)
@pytest.mark.long
@pytest.mark.timeout(900)
def test_any_answer_is_read_or_refused(
    client: Client, liars: Liars, name: str, kind: str, frames_allowed: bool, which: int, seed: int
) -> None:
    """The answer of this number is changed, or all are."""

    def lie(exchange: Exchange, number: int) -> None:
        if which in (number, ALL):
            KINDS[kind](exchange, random.Random(seed))

    check(client, liars, name, frames_allowed, lie)
