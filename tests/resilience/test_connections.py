"""The SDK against a real server over connections that are slow or break in the middle of a request or an answer.

A ledger has what was acknowledged: nothing of it is lost, nothing is stored twice. What a repetition can absorb, the
SDK absorbs; of the rest its caller hears one clear error.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.faulty_proxy import Direction, Fault, FaultyProxy, Kind, faulty_proxy
from support.service import Http, chunk, ok
from support.toy_paillier import toy_key
from xtrace_sdk import XTraceIntegration
from xtrace_sdk.errors import NetworkError
from xtrace_sdk.integrations.xtrace import Retries
from xtrace_server.credentials import Credentials

PASSING = (Kind.SLOW, Kind.DELAYED, Kind.BYTE_BY_BYTE)
BREAKING = (Kind.CUT, Kind.RESET, Kind.HALF_CLOSED)
CHUNKS = 20
IN_THE_ROWS = 1500
"""Bytes of an answer that are more than its head."""
QUERY = [toy_key().encrypt(1000)]
QUICKLY = Retries(attempts=6, first_delay_s=0.005, longest_delay_s=0.05)


@asynccontextmanager
async def through(credentials: Credentials) -> AsyncIterator[tuple[FaultyProxy, XTraceIntegration]]:
    """A client of the service whose connections go through the proxy, one at a time."""
    async with (
        faulty_proxy(credentials.api_url) as proxy,
        XTraceIntegration(
            credentials.org_id, credentials.api_key, api_url=proxy.url, retries=QUICKLY, max_connections=1
        ) as xtrace,
    ):
        yield proxy, xtrace


async def insert(xtrace: XTraceIntegration, kb: str, first: int) -> list[int]:
    """Stores numbers from `first` on as contents, in one request."""
    numbers = range(first, first + CHUNKS)
    made = [chunk(1 + number % 8, chunk_content=str(number), nonce=b"n" * 14) for number in numbers]
    return list(await xtrace.insert_chunks(kb, made, "ctx"))


def stored(http: Http, kb: str) -> Counter[str]:
    """How often each content is stored, asked without the proxy."""
    body = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}, "return_content": True}
    found = ok(http.data("POST", "/chunk/meta/{org}", json=body))
    assert [row[1] for row in http.search(kb, QUERY)] == [one["chunk_id"] for one in found]
    return Counter(one["chunk_content"] for one in found)


@pytest.fixture
def kb(http: Http) -> str:
    http.save_context()
    return http.new_kb()


@pytest.mark.parametrize("kind", [*PASSING, *BREAKING])
async def test_a_write_is_done_once_whatever_happens_to_its_connection(http: Http, kb: str, kind: Kind) -> None:
    """Before the first byte, in the head, in the body, of the request and of the answer."""
    faults = [Fault(kind, "request", after) for after in (0, 30, 2000)]
    faults += [Fault(kind, "answer", after) for after in (0, 30, 300)]
    async with through(http.credentials) as (proxy, xtrace):
        for number, fault in enumerate(faults):
            proxy.faults.append(fault)
            ids = await insert(xtrace, kb, number * CHUNKS)
            await xtrace.aclose()
        proxy.faults.append(Fault(kind, "answer", 40))
        await xtrace.patch_chunks(kb, "ctx", [{"chunk_id": ids[0], "chunk_content": "changed"}])
        await xtrace.aclose()
        proxy.faults.append(Fault(kind, "answer", 40))
        await xtrace.delete_chunks(ids[1:3], kb)
    requests = len(faults) + 2
    assert proxy.met[kind] == requests
    assert proxy.connections == (requests if kind in PASSING else 2 * requests)
    last = (len(faults) - 1) * CHUNKS
    kept = [*range(last), *range(last + 3, last + CHUNKS)]
    assert stored(http, kb) == Counter(["changed", *map(str, kept)])


@pytest.mark.parametrize("kind", [*PASSING, *BREAKING])
async def test_a_search_is_complete_whatever_happens_to_its_connection(http: Http, kb: str, kind: Kind) -> None:
    """In the head of an answer and within its rows: a whole answer is requested again, of a streamed one the rest."""
    ids = http.insert(kb, [chunk(1 + number % 8) for number in range(500)])
    async with through(http.credentials) as (proxy, xtrace):
        for after in (40, IN_THE_ROWS):
            fault = Fault(kind, "answer", after, piece_bytes=20_000, pause_s=0.001)
            proxy.faults.append(fault)
            assert (await xtrace.compute_hamming_distances(QUERY, "ctx", kb)).chunk_ids == ids
            await xtrace.aclose()
            proxy.faults.append(fault)
            blocks = [block async for block in xtrace.stream_hamming_distances(kb, "ctx", [QUERY])]
            assert [chunk_id for block in blocks for chunk_id in block.chunk_ids.tolist()] == ids
            await xtrace.aclose()
    assert proxy.met[kind] == 4


async def test_a_network_that_never_works_is_one_error_after_all_attempts(http: Http, kb: str) -> None:
    async with through(http.credentials) as (proxy, xtrace):
        proxy.choose = lambda: Fault(Kind.RESET, "request", 10)
        with pytest.raises(NetworkError, match="was closed before the answer was complete: try again") as raised:
            await insert(xtrace, kb, 0)
    assert proxy.connections == QUICKLY.attempts
    assert http.credentials.api_key not in str(raised.value)
    assert stored(http, kb) == Counter()


async def write_all(
    http: Http, kb: str, writers: int, requests: int, share: float
) -> tuple[Counter[str], list[set[str]], Counter[Kind]]:
    """Writers whose connections break by chance; the contents that were acknowledged, those of failed requests, and
    what the connections met.
    """
    dice = random.Random(16)
    acknowledged: Counter[str] = Counter()
    in_doubt: list[set[str]] = []
    met: Counter[Kind] = Counter()

    def fault() -> Fault | None:
        if dice.random() > share:
            return None
        direction: Direction = "request" if dice.random() < 0.5 else "answer"
        # Anywhere in the first few requests of a connection, in their heads or bodies.
        after = int(dice.random() ** 2 * 20_000) if direction == "request" else dice.randrange(900)
        return Fault(dice.choice([*PASSING, *BREAKING]), direction, after, pause_s=0.001, piece_bytes=500)

    async def write(number: int) -> None:
        async with through(http.credentials) as (proxy, xtrace):
            proxy.choose = fault
            for request in range(requests):
                first = (number * requests + request) * CHUNKS
                contents = [str(first + one) for one in range(CHUNKS)]
                try:
                    await insert(xtrace, kb, first)
                except NetworkError:
                    in_doubt.append(set(contents))
                else:
                    acknowledged.update(contents)
                if dice.random() < 0.5:
                    await xtrace.aclose()  # the next one begins with a new connection, and so perhaps with a fault
            met.update(proxy.met)

    await asyncio.gather(*(write(number) for number in range(writers)))
    return acknowledged, in_doubt, met


@pytest.mark.parametrize(
    ("writers", "requests"), [(3, 12), pytest.param(6, 40, marks=[pytest.mark.full, pytest.mark.long])]
)
async def test_nothing_acknowledged_is_lost_or_doubled(http: Http, kb: str, writers: int, requests: int) -> None:
    acknowledged, in_doubt, met = await write_all(http, kb, writers, requests, 0.7)
    there = stored(http, kb)
    assert met.keys() >= ({*BREAKING} if requests > 20 else set())
    assert sum(met.values()) > writers
    assert set(there.values()) == {1}
    assert acknowledged.keys() <= there.keys()
    for contents in in_doubt:
        assert contents & there.keys() in (set(), contents), "half of an insertion is stored"
    assert there.keys() <= acknowledged.keys() | set().union(*in_doubt)
    # Five repetitions absorb nearly all of it.
    assert len(in_doubt) <= writers * requests // 10
