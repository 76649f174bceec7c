"""Two organisations of one server: what one of them may do to the other, and how long the other's calls take meanwhile.

For the tests of neighbours, and for `benchmarks.neighbours`.
"""

import json
import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2

from support.service import Http, b64, chunk, ok
from support.toy_paillier import toy_key
from xtrace_server.credentials import Credentials

ROUNDS = 60
N = 2**2047 + 1
"""An odd modulus of 2048 bits; nothing has to be decrypted."""
INDEX = chunk()["index"]
QUERY = [toy_key().encrypt(1000)]
SLOW_FILTER = {"$or": [{f"tag{i % 5 + 1}": {"$contains": f"{i}" * 3000 + "x"}} for i in range(200)]}
TAGS = {f"tag{i}": f"{i}" * 6000 for i in range(1, 6)}
MAX_CONNECTIONS = 600
"""What the server should be started with, as `max_connections`."""


class Attack(threading.Thread):
    """One of the attacker's clients: repeats a call until it is told to end, whatever is answered."""

    def __init__(self, credentials: Credentials, call: Callable[[Http], Any], stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._http = Http(credentials)
        self._call, self._stop_event = call, stop
        self.answered = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        while not self._stop_event.is_set():
            try:
                self._call(self._http)
                self.answered += 1
            except httpx2.HTTPError:
                time.sleep(0.01)
            except AssertionError as failure:
                self.failure = failure
                break
        self._http.close()


def wide(number: int) -> str:
    return b64((number * 2**4000 + 3).to_bytes(512, "little"))


class World:
    """An attacker with stock, and a neighbour, at one server. Closes with `close`."""

    def __init__(self, attacker: Credentials, neighbour: Credentials) -> None:
        self.attacker = attacker
        self.neighbour = Http(neighbour)
        self.probe = httpx2.Client(base_url=attacker.api_url, timeout=60)
        http = Http(self.attacker)
        http.save_context()
        self.kb = http.new_kb()
        self.filled_kb = http.new_kb()
        for _ in range(20):
            http.insert(self.kb, [self.plain(meta_data=TAGS) for _ in range(50)])
        data = {"type": "PaillierClient", "pk": json.dumps({"n": N}), "config": "{}"}
        ok(http.data("POST", "/exec_context/{org}", json={"context_id": "wide", "data": data}))
        body = {
            "kb_id": self.filled_kb,
            "context_id": "wide",
            "chunks": [self.plain(index=[wide(i)]) for i in range(100)],
        }
        ok(http.data("POST", "/chunk/{org}", json=body))
        http.close()
        self.key = str(ok(self.neighbour.control("GET", "/keys"))[0]["hash"])
        self.neighbour.save_context()
        self.neighbours_kb = self.neighbour.new_kb()
        self.neighbour.insert(self.neighbours_kb, [self.plain() for _ in range(100)])

    @staticmethod
    def plain(**fields: Any) -> dict[str, Any]:
        return {"index": INDEX, "chunk_content": "text", **fields}

    def close(self) -> None:
        self.neighbour.close()
        self.probe.close()

    def latencies(self, rounds: int = ROUNDS, *, must_succeed: bool = True) -> dict[str, list[float]]:
        """How long the neighbour's calls took; what failed counts as infinitely long unless all must succeed."""
        http, kb = self.neighbour, self.neighbours_kb
        permission = f"/keys/{self.key}/permissions/{kb}"
        calls: dict[str, Callable[[], Any]] = {
            "insert": lambda: http.insert(kb, [self.plain()]),
            "search": lambda: http.search(kb, QUERY),
            "page": lambda: ok(http.data("POST", "/chunk/meta/page/{org}", json=self.scope(kb) | {"limit": 10})),
            "key change": lambda: ok(http.control("PUT", permission, json={"permission": 7})),
            "probe": lambda: self.probe.get("/readyz").raise_for_status(),
        }
        found: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                began = time.monotonic()
                try:
                    call()
                except (AssertionError, httpx2.HTTPError):
                    if must_succeed:
                        raise
                    began = -math.inf
                found[name].append(time.monotonic() - began)
        return found

    @staticmethod
    def scope(kb: str, **more: Any) -> dict[str, Any]:
        return {"kb_id": kb, "context_id": "ctx", "meta_filter": {}, **more}


@contextmanager
def attacking(world: World, call: Callable[[Http], Any], clients: int) -> Iterator[list[Attack]]:
    stop = threading.Event()
    attacks = [Attack(world.attacker, call, stop) for _ in range(clients)]
    for attack in attacks:
        attack.start()
    time.sleep(0.5)  # until it is under way
    try:
        yield attacks
    finally:
        stop.set()
        for attack in attacks:
            attack.join(60)


def slow_filter(world: World, http: Http) -> None:
    answer = http.data("POST", "/chunk/meta/{org}", json=world.scope(world.kb, meta_filter=SLOW_FILTER))
    assert answer.status_code in (200, 503), answer.text


def large_insertion(world: World, http: Http) -> None:
    http.insert(world.filled_kb, [world.plain()] * 2000)


def large_deletion(world: World, http: Http) -> None:
    kb = http.new_kb()
    http.insert(kb, [world.plain(meta_data={"tag1": "x"})] * 3000)
    ok(http.data("DELETE", "/chunk/by-meta/{org}", json=world.scope(kb, meta_filter={"tag1": "x"})))
    ok(http.control("DELETE", f"/kbs/{kb}"))


def many_searches(world: World, http: Http) -> None:
    http.search(world.kb, QUERY)


def slow_body(world: World, http: Http) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2000
            time.sleep(0.1)

    assert http.data("POST", "/chunk/{org}", content=body()).status_code == 400


def slow_reader(world: World, http: Http) -> None:
    """Asks for 30 MB and reads nothing of it for a while."""
    url, body = f"/v1/chunk/meta/{http.org}", world.scope(world.kb)
    with http.client.stream("POST", url, json=body, headers=http.data_headers) as answer:
        assert answer.status_code in (200, 503)
        time.sleep(1)


def prepared_queries(world: World, http: Http) -> None:
    """Thirty-two queries that nobody has asked before."""
    first = random.randrange(2**60)
    queries = [[wide(first + i)] for i in range(32)]
    body = {"kb_id": world.filled_kb, "context_id": "wide", "queries": queries}
    answer = http.data("POST", "/compute_hamming_batch/{org}", json=body)
    assert answer.status_code == 200, answer.text


def connections(world: World, http: Http) -> None:
    """A hundred connections that ask for nothing: eight clients have more than there may be."""
    address = urlsplit(world.attacker.api_url)
    held = [socket.create_connection((address.hostname, address.port), timeout=20) for _ in range(100)]
    time.sleep(0.5)
    for one in held:
        one.close()


ATTACKS: list[tuple[Callable[[World, Http], None], int]] = [
    (slow_filter, 16),
    (large_insertion, 16),
    (large_deletion, 8),
    (many_searches, 16),
    (slow_body, 64),
    (slow_reader, 16),
    (prepared_queries, 8),
    (connections, 8),
]


def p99(times: list[float]) -> float:
    """The second worst of a few dozen."""
    return sorted(times)[int(0.99 * (len(times) - 1))]
