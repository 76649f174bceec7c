"""A rate that several processes count together: never beyond it, and never for longer than it says."""

import os
import time

import pytest

from xtrace_server.limits import shared_rates
from xtrace_server.limits.shared_rates import PLACES, SharedRates


class Clock:
    """A monotonic clock that a test sets."""

    now = 10_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_after_the_wait_that_it_says_a_use_is_allowed_and_not_much_before(clock: Clock) -> None:
    for amount, seconds in ((1, 10), (5, 10), (100, 60)):
        rates = SharedRates(clock)
        allowed: list[float] = []
        for step in range(400):
            wait_s = rates.hit("key", amount, seconds)
            if wait_s:
                assert wait_s <= 2 * seconds
                clock.now += wait_s - 0.01 * seconds
                assert rates.hit("key", amount, seconds) > 0, "it could have come earlier"
                clock.now += 0.011 * seconds
                assert rates.hit("key", amount, seconds) == 0.0
            allowed.append(clock.now)
            clock.now += seconds / amount * (0.1 if step % 3 else 0.7)
        # Of the fixed windows none has more, and of any window none twice as much.
        for start in allowed:
            assert sum(start <= one < start + seconds for one in allowed) < 2 * amount or amount == 1
        windows = [int(one // seconds) for one in allowed]
        assert max(windows.count(one) for one in windows) <= amount


def test_what_was_not_used_is_not_kept(clock: Clock) -> None:
    rates = SharedRates(clock)
    assert [rates.hit("key", 3, 10) == 0 for _ in range(5)] == [True] * 3 + [False] * 2
    clock.now += 1000
    assert [rates.hit("key", 3, 10) == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_keys_and_rates_count_apart(clock: Clock) -> None:
    rates = SharedRates(clock)
    for key in ("a", "b"):
        for amount, seconds in ((2, 10), (2, 60), (3, 60)):
            assert [rates.hit(key, amount, seconds) == 0 for _ in range(4)] == [i < amount for i in range(4)]


def test_of_too_many_keys_the_one_used_longest_ago_is_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_rates, "BUCKETS", 1)
    rates = SharedRates(clock)
    for number in range(PLACES + 1):
        clock.now += 60
        assert rates.hit(f"key {number}", 1, 3600) == 0
    assert rates.hit(f"key {PLACES}", 1, 3600) > 0
    assert rates.hit("key 2", 1, 3600) > 0


def test_processes_count_together() -> None:
    rates, window = SharedRates(), 3600
    if window - time.monotonic() % window < 30:  # pragma: no cover - at the end of an hour
        window = 5000
    results = [os.pipe() for _ in range(3)]
    for _, writing in results:
        if not os.fork():
            allowed = sum(rates.hit("key", 1000, window) == 0 for _ in range(800))
            os.write(writing, str(allowed).encode())
            os._exit(0)
    counts = [int(os.read(reading, 100)) for reading, _ in results]
    for pair in results:
        for descriptor in pair:
            os.close(descriptor)
        os.wait()
    assert sum(counts) == 1000
    assert rates.hit("key", 1000, window) > 0
    assert all(one <= 800 for one in counts)
