"""How the server goes through rows: from the first on while others are read, once for everybody, and not for nobody."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.service import Http, LiveService, b64, chunk, running_service
from support.toy_paillier import toy_key
from xtrace_core.frames import MEDIA_TYPE, FrameReader
from xtrace_server.errors import Unavailable
from xtrace_server.storage import vectors

pytestmark = pytest.mark.usefixtures("database")

ROWS = 700
QUERY = [b64(toy_key().encrypt(1000))]


class Gate:
    """The readings of rows stop after their first block until the gate opens; `begun` and `stopped` count them."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.failure: Exception | None = None
        self.begun = self.stopped = 0

    def guarded(self, read: Callable[..., AsyncIterator[Any]]) -> Callable[..., AsyncIterator[Any]]:
        async def guarded(*arguments: Any) -> AsyncIterator[Any]:
            self.begun += 1
            try:
                async for block in read(*arguments):
                    yield block
                    while not self.open.is_set():  # noqa: ASYNC110 - opened by another thread
                        await asyncio.sleep(0.01)
                    if self.failure is not None:
                        raise self.failure
            finally:
                self.stopped += 1

        return guarded


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    for name in ("read_all", "read_some"):
        monkeypatch.setattr(vectors, name, made.guarded(getattr(vectors, name)))
    yield made
    made.open.set()


@pytest.fixture(params=[2**20, 0], ids=["into the cache", "past the cache"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveService]:
    with running_service(tmp_path / "data", cache_bytes=request.param, metrics="loopback") as running:
        yield running


@pytest.fixture
def http(service: LiveService) -> Iterator[Http]:
    client = Http(service.first_credentials)
    yield client
    client.close()


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk(i % 7 + 1, meta_data={"tag1": f"t{i % 3}"}) for i in range(ROWS)])
    return kb


class Answer:
    """A framed answer that is read bit by bit."""

    def __init__(self, http: Http, kb: str, **body: Any) -> None:
        self._client = httpx2.Client(timeout=30)
        body = {"kb_id": kb, "context_id": "ctx", "query": QUERY, **body}
        url = f"{http.credentials.api_url}/v1/compute_hamming/{http.org}"
        self._stream = self._client.stream("POST", url, json=body, headers=http.data_headers | {"accept": MEDIA_TYPE})
        self._parts = self._stream.__enter__().iter_raw()
        self._reader = FrameReader()

    def next_ids(self) -> list[int]:
        """The chunk ids of the next rows that come; none at the end."""
        for part in self._parts:
            if found := [i for block in self._reader.feed(part) for i in block.chunk_ids.tolist()]:
                return found
        self._reader.close()
        return []

    def rest(self) -> list[int]:
        return [i for part in iter(self.next_ids, []) for i in part]

    def close(self) -> None:
        self._stream.__exit__(None, None, None)
        self._client.close()


def metric(http: Http, name: str) -> float:
    text = http.client.get("/metrics").text
    return float(next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name)))


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@pytest.mark.parametrize("id_range", [(1, ROWS), (101, 650)])
def test_the_first_rows_come_before_the_last_are_read(
    http: Http, kb: str, gate: Gate, id_range: tuple[int, int]
) -> None:
    first, last = id_range
    answer = Answer(http, kb, range=id_range)
    begin = answer.next_ids()
    assert 0 < len(begin) < last - first
    assert (gate.begun, gate.stopped) == (1, 0)
    # Neither writers nor other readers wait for it.
    assert http.insert(kb, [chunk()]) == [ROWS + 1]
    gate.open.set()
    assert begin + answer.rest() == list(range(first, last + 1))
    answer.close()
    assert [row[1] for row in http.search(kb, [toy_key().encrypt(1)])] == list(range(1, ROWS + 2))


@pytest.mark.parametrize("service", [2**20], indirect=True)
def test_a_filtered_search_too_begins_before_the_last_rows_are_read(http: Http, kb: str, gate: Gate) -> None:
    answer = Answer(http, kb, meta_filter={"tag1": {"$ne": "t0"}})
    begin, expected = answer.next_ids(), [i for i in range(1, ROWS + 1) if i % 3 != 1]
    assert 0 < len(begin) < len(expected)
    gate.open.set()
    assert begin + answer.rest() == expected
    answer.close()


@pytest.mark.parametrize("service", [2**20], indirect=True)
def test_searches_that_come_meanwhile_share_the_reading(http: Http, kb: str, gate: Gate) -> None:
    answers = [Answer(http, kb) for _ in range(5)] + [Answer(http, kb, range=[2, 600])]
    firsts = [answer.next_ids() for answer in answers]
    assert gate.begun == 1
    answers[0].close()  # the one that the reading began for
    gate.open.set()
    for first, answer, expected in zip(
        firsts[1:], answers[1:], [range(1, ROWS + 1)] * 4 + [range(2, 601)], strict=True
    ):
        assert first + answer.rest() == list(expected)
        answer.close()
    http.search(kb, [toy_key().encrypt(1)])
    assert gate.begun == 1


@pytest.mark.parametrize("service", [2**20], indirect=True)
def test_a_search_after_a_write_is_not_answered_by_an_older_reading(http: Http, kb: str, gate: Gate) -> None:
    older = Answer(http, kb)
    first = older.next_ids()
    http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [5]})
    http.insert(kb, [chunk(3)])
    with ThreadPoolExecutor(1) as pool:
        newer = pool.submit(http.search, kb, [toy_key().encrypt(1)])
        gate.open.set()
        assert [row[1] for row in newer.result()] == [i for i in range(1, ROWS + 2) if i != 5]
    assert first + older.rest() == list(range(1, ROWS + 1))
    older.close()


def test_a_client_that_goes_away_stops_the_reading(http: Http, kb: str, gate: Gate) -> None:
    answer = Answer(http, kb)
    assert answer.next_ids()
    assert (gate.begun, gate.stopped) == (1, 0)
    answer.close()
    wait_until(lambda: gate.stopped == 1)
    assert metric(http, "xtrace_candidates_scanned_total") < ROWS
    gate.open.set()
    assert len(http.search(kb, [toy_key().encrypt(1)])) == ROWS


def test_a_reading_that_fails_cuts_the_answer_off_and_leaves_nothing_behind(http: Http, kb: str, gate: Gate) -> None:
    answer = Answer(http, kb)
    assert answer.next_ids()
    gate.failure = Unavailable("the disk is gone")
    gate.open.set()
    with pytest.raises(httpx2.TransportError):
        answer.rest()
    answer.close()
    gate.failure = None
    assert len(http.search(kb, [toy_key().encrypt(1)])) == ROWS


def test_a_client_that_goes_away_stops_its_scan(http: Http, kb: str) -> None:
    http.insert(kb, [chunk(3)] * 9000)
    body = {"kb_id": kb, "context_id": "ctx", "queries": [QUERY] * 32}
    answer = http.data("POST", "/compute_hamming_batch/{org}", json=body)
    assert answer.status_code == 200
    whole = metric(http, "xtrace_candidates_scanned_total")
    assert whole == ROWS + 9000
    url = f"{http.credentials.api_url}/v1/compute_hamming_batch/{http.org}"
    with httpx2.Client(timeout=30) as client:
        for _ in range(3):
            with client.stream("POST", url, json=body, headers=http.data_headers) as stream:
                assert stream.status_code == 200
                next(stream.iter_raw())
    time.sleep(0.3)
    scanned = metric(http, "xtrace_candidates_scanned_total") - whole
    assert scanned < 3 * whole, "the scans went on for nobody"
    time.sleep(0.3)
    assert metric(http, "xtrace_candidates_scanned_total") - whole == scanned
