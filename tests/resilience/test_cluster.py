"""Actors, nodes and whole clusters die amid searches and writes: every answer is complete and right, or an error that
says so, and what was acknowledged is there.
"""

import asyncio
import base64
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import numpy as np
import pytest

from support.ray_cluster import NEEDED, RayCluster, ray_cluster, until
from support.server_process import ServerProcess
from support.service import Http, b64, chunk, ok
from support.toy_paillier import toy_key
from xtrace_server.search.interface import Segment
from xtrace_server.search.ray.scanner import RayScanner
from xtrace_server.settings import Settings

pytestmark = [NEEDED, pytest.mark.full, pytest.mark.long, pytest.mark.timeout(900)]

CHUNKS = 2000
SEGMENT_ROWS = 128
QUERY = toy_key().encrypt(1000)
INDEXES = {message: chunk(message)["index"] for message in range(8)}
PRODUCTS = {
    int.from_bytes(base64.b64decode(index[0]), "little") * int.from_bytes(QUERY, "little") % toy_key().n ** 2: message
    for message, index in INDEXES.items()
}
"""What a search finds of a message."""
SEARCHES = 6
"""How many answers there must be after each fault."""


@dataclass
class Ledger:
    """What the writer knows: which message each chunk may have, and which chunks may be gone."""

    messages: dict[int, set[int]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    changes: list[tuple[int, int | None]] = field(default_factory=list)
    """Every change that was begun, with None for a deletion."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, chunk_id: int, message: int | None) -> None:
        with self.lock:
            self.changes.append((chunk_id, message))
            if message is not None:
                self.messages[chunk_id].add(message)

    def acknowledge(self, chunk_id: int, message: int | None) -> None:
        with self.lock:
            if message is None:
                self.gone.add(chunk_id)
                del self.messages[chunk_id]
            else:
                self.messages[chunk_id] = {message}

    def known(self) -> tuple[dict[int, set[int]], set[int], int]:
        with self.lock:
            return {one: set(may) for one, may in self.messages.items()}, set(self.gone), len(self.changes)

    def check(self, before: tuple[dict[int, set[int]], set[int], int], found: dict[int, int]) -> None:
        """What a search found that began when the ledger was as `before`."""
        messages, gone, begun = before
        with self.lock:
            since = self.changes[begun:]
        # A change that had begun before counts as possible as long as it is not acknowledged: `known` has it.
        doubtful = {one for one, message in self.changes if message is None}
        for chunk_id, message in since:
            if message is not None and chunk_id in messages:
                messages[chunk_id].add(message)
        assert not gone & found.keys(), "a deleted chunk was found"
        assert messages.keys() - doubtful <= found.keys(), "a chunk is missing"
        for chunk_id, message in found.items():
            assert message in messages.get(chunk_id, {message}), "a chunk is not as it was written"


class Client(threading.Thread):
    """Works until it is told to end; what it finds wrong is its `failure`."""

    def __init__(self, server: ServerProcess, kb: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self._http = Http(server.credentials)
        self._http.client = httpx2.Client(base_url=server.url, timeout=120)
        self._kb, self._ledger = kb, ledger
        self.ended = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.ended.wait(0.02):
                self._step()
        except BaseException as failure:
            self.failure = failure
        self._http.close()

    def _step(self) -> None:
        raise NotImplementedError


class Writer(Client):
    """Inserts, changes and deletes, one request after another."""

    _dice = random.Random(1)

    def _step(self) -> None:
        ledger, http, kind = self._ledger, self._http, self._dice.random()
        chunk_id, message = self._dice.choice(sorted(ledger.messages)), self._dice.randrange(8)
        if kind < 0.4:
            for new in http.insert(self._kb, [{"chunk_content": "new", "index": INDEXES[message]}] * 3):
                with ledger.lock:
                    ledger.messages[new] = {message}
        elif kind < 0.8:
            ledger.begin(chunk_id, message)
            update = {"chunk_id": chunk_id, "chunk_content": "changed", "index": INDEXES[message]}
            body = {"kb_id": self._kb, "context_id": "ctx", "chunk_updates": [update]}
            ok(http.data("PUT", "/chunk/{org}", json=body))
            ledger.acknowledge(chunk_id, message)
        else:
            ledger.begin(chunk_id, None)
            ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": self._kb, "chunk_ids": [chunk_id]}))
            ledger.acknowledge(chunk_id, None)


class Searcher(Client):
    """Searches again and again, and holds each answer against the ledger."""

    answers = refused = cut_off = 0

    def _step(self) -> None:
        before = self._ledger.known()
        found = searched(self._http, self._kb)
        if isinstance(found, dict):
            self._ledger.check(before, found)
            self.answers += 1
        elif found == "refused":
            self.refused += 1
        else:
            self.cut_off += 1


def searched(http: Http, kb: str) -> dict[int, int] | str:
    """The message of each chunk, by its id; or how the search failed."""
    body = {"kb_id": kb, "context_id": "ctx", "query": [b64(QUERY)]}
    try:
        answer = http.data("POST", "/compute_hamming/{org}", json=body)
    except httpx2.TransportError:
        return "cut off"
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) > 0
        return "refused"
    assert answer.status_code == 200, answer.text
    rows: list[Any] = msgspec.msgpack.decode(answer.content)
    ids = [row[1] for row in rows]
    assert ids == sorted(set(ids))
    return {chunk_id: PRODUCTS[int.from_bytes(ciphertexts[0], "little")] for ciphertexts, chunk_id, _ in rows}


def stored(number: int) -> dict[str, Any]:
    """A chunk to insert; nonces differ, or equal segments would be held once."""
    nonce = b64(number.to_bytes(4, "big"))
    return {"chunk_content": "text", "index": INDEXES[number % 8], "nonce": nonce}


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with ray_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def servers(
    cluster: RayCluster, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[list[ServerProcess]]:
    """Three servers over one database."""
    settings = {"ray_address": cluster.address, "ray_min_rows": 500, "ray_segment_rows": SEGMENT_ROWS}
    each = [
        ServerProcess(
            tmp_path / "data", port=unused_tcp_port_factory(), shared=True, engine="ray", metrics="loopback", **settings
        )
        for _ in range(3)
    ]
    for server in each:
        server.start()
    until(lambda: all(cluster_metric(server, "nodes") == 2 for server in each), "every server is connected")
    yield each
    for server in each:
        server.kill()


def cluster_metric(server: ServerProcess, name: str) -> float:
    text = httpx2.get(f"{server.url}/metrics", timeout=30).text
    return float(re.findall(rf"^xtrace_cluster_{name} (\S+)", text, re.MULTILINE)[0])


@pytest.fixture
def kb(servers: list[ServerProcess]) -> str:
    http = Http(servers[0].credentials)
    http.save_context()
    kb = http.new_kb()
    for start in range(0, CHUNKS, 500):
        http.insert(kb, [stored(i) for i in range(start, start + 500)])
    http.close()
    return kb


def test_every_answer_is_right_whatever_dies(cluster: RayCluster, servers: list[ServerProcess], kb: str) -> None:
    ledger = Ledger({i + 1: {i % 8} for i in range(CHUNKS)})
    searchers = [Searcher(server, kb, ledger) for server in servers]
    writer = Writer(servers[0], kb, ledger)
    threads: list[Client] = [*searchers, writer]

    def answers_everywhere() -> None:
        """Waits until each server has answered some searches that began later."""
        counts = [searcher.answers for searcher in searchers]

        def enough() -> bool:
            assert not [one.failure for one in threads if one.failure]
            return all(one.answers >= count + SEARCHES for one, count in zip(searchers, counts, strict=True))

        until(enough, "every server answers")

    for searcher in searchers:
        searcher.start()
    answers_everywhere()
    # Three servers have the rows once. A row has 128 bytes and an overhead of 64; what changes leave behind goes last.
    held = CHUNKS * (len(QUERY) + 64)
    until(lambda: cluster_metric(servers[1], "held_bytes") > 0.8 * held, "the cluster holds the rows")
    answers_everywhere()
    assert cluster_metric(servers[1], "held_bytes") < 1.2 * held
    writer.start()
    answers_everywhere()
    before = set(cluster.holders())
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(set(cluster.holders()) - before) == 1, "Ray starts the holder again")
    answers_everywhere()
    cluster.kill_node()
    answers_everywhere()
    until(lambda: cluster_metric(servers[2], "nodes") == 1, "the servers know that a node is gone")
    cluster.nodes.append(cluster.add_node())
    until(lambda: cluster_metric(servers[2], "nodes") == 2, "the servers find a new node")
    answers_everywhere()
    cluster.stop()
    answers_everywhere()
    for thread in threads:
        thread.ended.set()
        thread.join(120)
        assert thread.failure is None
    # What was acknowledged is there, and nothing else.
    http = Http(servers[1].credentials)
    found = searched(http, kb)
    http.close()
    assert isinstance(found, dict)
    assert {chunk_id: {message} for chunk_id, message in found.items()} == ledger.messages
    print({"answers": sum(one.answers for one in searchers), "refused": sum(one.refused for one in searchers)})
    print({"cut off": sum(one.cut_off for one in searchers), "changes": len(ledger.changes)})


def test_nothing_stays_when_no_server_asks_any_more(cluster: RayCluster, tmp_path: Path) -> None:
    rows = np.arange(4096, dtype=np.uint8).reshape(64, 64)

    async def hold() -> None:
        settings = Settings(data=tmp_path, engine="ray", ray_address=cluster.address, ray_min_rows=0, ray_idle_s=3.0)
        scanner = RayScanner(settings)
        await scanner.start()
        async with asyncio.timeout(60):
            while not scanner.client.available:  # noqa: ASYNC110 - the state of another process
                await asyncio.sleep(0.05)
            await scanner.hold(Segment(np.arange(64), rows, (None,) * 64))
            while not scanner.held_bytes:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert len(cluster.holders()) == 2
        await scanner.close()

    asyncio.run(hold())
    until(lambda: not cluster.holders(), "the holders have ended")
