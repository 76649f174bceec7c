"""What several workers count, as one: sums, and nothing is lost with a worker that dies."""

import os
import random
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xtrace_server.metrics import Metrics
from xtrace_server.metrics_board import PLACE_BYTES, Family, MetricsBoard, MetricsPlace, Sample


def values(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples that a scrape gets, but for the times at which counting began."""
    families = text_string_to_metric_families(metrics.text().decode())
    samples = [one for family in families for one in family.samples if not one.name.endswith("_created")]
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples}


async def test_each_worker_answers_for_all_and_for_those_that_have_died() -> None:
    board = MetricsBoard(4)
    one, two, three = (Metrics(MetricsPlace(board, place)) for place in (1, 2, 3))
    for number, metrics in enumerate((one, two, three), 1):
        metrics.requests.labels("/kbs", "GET", "200").inc(10**number)
        metrics.request_seconds.labels("/kbs").observe(0.002 * number)
        metrics.requests_in_flight.set(number)
        metrics.watch_database({"database_bytes": lambda number=number: 100.0 * number})  # type: ignore[misc]
        async with metrics.shown():
            pass
    expected = {
        ("xtrace_requests_total", (("method", "GET"), ("route", "/kbs"), ("status", "200"))): 1110,
        ("xtrace_request_seconds_count", (("route", "/kbs"),)): 3,
        ("xtrace_request_seconds_bucket", (("le", "0.0025"), ("route", "/kbs"))): 1,
        ("xtrace_request_seconds_bucket", (("le", "+Inf"), ("route", "/kbs"))): 3,
        ("xtrace_requests_in_flight", ()): 6,
        ("xtrace_database_bytes", ()): 300,
    }
    for metrics in (one, two, three):
        found = values(metrics)
        assert {name: found[name] for name in expected} == expected
    assert one.workers() == two.workers() == (3, 3)
    one.requests.labels("/kbs", "GET", "200").inc()  # what it says of itself is always new
    board.retire(3)
    board.retire(3)
    assert one.workers() == (2, 3)
    found = values(one)
    expected |= {
        ("xtrace_requests_total", (("method", "GET"), ("route", "/kbs"), ("status", "200"))): 1111,
        ("xtrace_requests_in_flight", ()): 3,
        ("xtrace_database_bytes", ()): 200,
    }
    assert {name: found[name] for name in expected} == expected


def test_alone_a_server_says_the_same_in_the_same_form() -> None:
    alone, worker = Metrics(), Metrics(MetricsPlace(MetricsBoard(2), 1))
    for metrics in (alone, worker):
        metrics.searches.labels("cache").inc(3)
        metrics.transaction_seconds.labels("read").observe(0.3)
    assert values(alone) == values(worker)
    assert alone.workers() == worker.workers() == (1, 1)
    assert alone.text().count(b"# TYPE") == worker.text().count(b"# TYPE")


def test_what_is_read_while_it_is_written_is_whole() -> None:
    board = MetricsBoard(1)
    dice = random.Random(1)
    sizes = [dice.randrange(1, 400) for _ in range(300)]

    def families(count: int) -> list[Family]:
        return [Family("m", "d", "counter", [("m_total", {"n": str(i)}, float(count)) for i in range(count)])]

    child = os.fork()
    if not child:
        while True:
            for count in sizes:
                board.write(1, families(count))
    seen: set[int] = set()
    try:
        while len(seen) < 20:
            for family in board.read(1):
                assert {value for _, _, value in family.samples} == {len(family.samples)}
                seen.add(len(family.samples))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    # It died while it wrote, or between.
    assert all({value for _, _, value in family.samples} == {len(family.samples)} for family in board.read(1))
    board.write(1, families(3))
    assert board.read(1) == families(3)


def test_what_does_not_fit_is_refused() -> None:
    board = MetricsBoard(1)
    noise = random.Random(1)
    samples: list[Sample] = [(noise.randbytes(40).hex(), {}, 1.0) for _ in range(PLACE_BYTES // 40)]
    with pytest.raises(ValueError, match="larger than their place"):
        board.write(1, [Family("m", "d", "counter", samples)])
    assert board.read(1) == []
