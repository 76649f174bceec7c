"""Counts in a Redis: servers count together, and what happens while it does not answer."""

import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import pytest_asyncio

from support.redis_server import NEEDED, RedisServer
from xtrace_server.errors import RateLimited, Unavailable
from xtrace_server.limits import rate_store
from xtrace_server.limits.rate_store import RateStore, StoreUnreachable
from xtrace_server.limits.rates import Rates
from xtrace_server.limits.shared_rates import SharedRates
from xtrace_server.limits.sign_ins import SignIns
from xtrace_server.metrics import Metrics

pytestmark = NEEDED


@pytest.fixture(scope="module")
def redis(unused_tcp_port_factory: Callable[[], int]) -> Iterator[RedisServer]:
    server = RedisServer(unused_tcp_port_factory())
    server.start()
    yield server
    server.kill()


@pytest_asyncio.fixture
async def stores(redis: RedisServer) -> AsyncIterator[list[RateStore]]:
    """As two servers have them."""
    redis.ask("FLUSHALL")
    made = [RateStore(redis.url, Metrics()) for _ in range(2)]
    yield made
    for store in made:
        await store.close()


async def test_two_servers_count_together(stores: list[RateStore]) -> None:
    one, two = stores
    for store in (one, two, one, two, one):
        assert await store.hit("key", 5, 3600, count=False) == 0.0
        assert await store.hit("key", 5, 3600) == 0.0
    for store in stores:
        assert 0 < await store.hit("key", 5, 3600) <= 7200
        assert 0 < await store.hit("key", 5, 3600, count=False) <= 7200
        assert await store.hit("another key", 5, 3600) == 0.0
    assert [await store.add("sum", 2, 60) for store in stores] == [2, 4]
    assert await one.add("sum", -1, 60) == 3


async def test_a_window_moves_on(stores: list[RateStore]) -> None:
    assert [await stores[0].hit("key", 2, 1) == 0.0 for _ in range(3)] == [True, True, False]
    deadline = time.monotonic() + 5
    while await stores[1].hit("key", 2, 1):
        assert time.monotonic() < deadline


async def test_redis_sees_neither_keys_nor_addresses_and_forgets(stores: list[RateStore], redis: RedisServer) -> None:
    sign_ins = SignIns(3, Rates(SharedRates(), stores[0]))
    await sign_ins.fail("192.0.2.77")
    await stores[0].hit("the hash of a key", 5, 60)
    await stores[0].add("an organisation", 1, 60)
    kept = redis.ask("KEYS *").decode()
    assert kept.count("xtrace") == 3
    assert "192.0.2.77" not in kept
    assert "organisation" not in kept
    assert "hash" not in kept
    for name in [line for line in kept.splitlines() if "xtrace" in line]:
        assert 0 < int(redis.ask(f"TTL {name}")[1:]) <= 120


async def test_while_it_does_not_answer_requests_count_here_and_sign_ins_are_refused(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    redis = RedisServer(unused_tcp_port)
    redis.start()
    store = RateStore(redis.url.replace("//", "//user:secret@"), metrics := Metrics())
    rates = Rates(SharedRates(), store)
    redis.ask("ACL SETUSER user on >secret ~* +@all")
    sign_ins = SignIns(2, rates)
    try:
        await sign_ins.check("192.0.2.1")
        redis.kill()
        assert [await rates.hit("key", 3, 60) == 0.0 for _ in range(5)] == [True] * 3 + [False] * 2
        for _ in range(2):
            with pytest.raises(Unavailable, match="rate_store"):
                await sign_ins.check("192.0.2.1")
        # It is not asked again at once: requests do not wait for it.
        assert b"xtrace_rate_store_errors_total 1.0" in metrics.text()
        redis.start()
        redis.ask("ACL SETUSER user on >secret ~* +@all")
        with pytest.raises(StoreUnreachable):
            await store.check()
        monkeypatch.setattr(store, "_asked_again_at", 0.0)
        for _ in range(2):
            await sign_ins.check("192.0.2.1")
            await sign_ins.fail("192.0.2.1")
        with pytest.raises(RateLimited, match="2 sign-ins"):
            await sign_ins.check("192.0.2.1")
    finally:
        await store.close()
        redis.kill()
    assert "cannot be reached" in caplog.text
    assert "answers again" in caplog.text
    assert "secret" not in caplog.text


async def test_a_store_that_does_not_answer_in_time_is_as_good_as_gone(
    unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that is busy with one command answers no other."""
    monkeypatch.setattr(rate_store, "TIMEOUT_S", 0.1)
    redis = RedisServer(unused_tcp_port)
    redis.start()
    store = RateStore(redis.url, Metrics())
    try:
        await store.check()
        redis.ask("CLIENT PAUSE 20000 ALL")
        began = time.monotonic()
        with pytest.raises(StoreUnreachable):
            await store.check()
        assert time.monotonic() - began < 5
    finally:
        redis.kill()
        await store.close()
