"""A statement ends when its request does: at the deadline, and when the server stops."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.server_process import ServerProcess
from support.service import Http, LiveService, chunk, ok, problem, running_service
from xtrace_server.logs import JsonFormatter

pytestmark = pytest.mark.usefixtures("database")

TAGS = {f"tag{i}": f"{i}" * 60_000 for i in range(1, 6)}
SLOW: dict[str, Any] = {
    "$or": [
        {f"tag{i % 5 + 1}": {"$contains": f"{i % 5 + 1}" * 15_000 + f"x{i}" + f"{i % 5 + 1}" * 15_000}}
        for i in range(60)
    ]
}
"""A filter that takes minutes over a hundred chunks with such tags, in whatever direction texts are compared."""


@pytest.fixture(scope="module")
def service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    with running_service(tmp_path_factory.mktemp("slow") / "data", request_timeout_s=2.5) as service:
        yield service


def slow_stock(http: Http) -> str:
    http.save_context()
    kb_id = http.new_kb()
    for _ in range(10):
        http.insert(kb_id, [chunk(meta_data=TAGS) for _ in range(10)])
    return kb_id


def calls(http: Http, kb_id: str) -> dict[str, Callable[[], Any]]:
    found = {"kb_id": kb_id, "context_id": "ctx", "meta_filter": SLOW}
    return {
        "a search by metadata": lambda: http.data("POST", "/chunk/meta/{org}", json=found),
        "a page": lambda: http.data("POST", "/chunk/meta/page/{org}", json=found),
        "a deletion": lambda: http.data("DELETE", "/chunk/by-meta/{org}", json=found),
        "a patch": lambda: http.data("PATCH", "/chunk/by-meta/{org}", json={**found, "patch": {"tag1": "x"}}),
    }


def test_a_statement_ends_at_the_deadline(service: LiveService) -> None:
    http = Http(service.first_credentials)
    kb_id = slow_stock(http)
    for name, call in calls(http, kb_id).items():
        began = time.monotonic()
        problem(call(), 503, "deadline_exceeded")
        took = time.monotonic() - began
        # Uninterrupted, each would take minutes.
        assert took < 20, (name, took)
        http.insert(kb_id, [chunk()])  # the connection that was interrupted writes again
    http.close()


def leave(call: Callable[[], Any], http: Http) -> None:
    """Makes the call, and closes its connection while the server is at work."""
    http.client.timeout = httpx2.Timeout(60, read=0.5)
    with pytest.raises(httpx2.ReadTimeout):
        call()


def test_a_statement_ends_when_its_client_leaves(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", metrics="loopback") as service:
        http, watch = Http(service.first_credentials), Http(service.first_credentials)
        kb_id = slow_stock(watch)
        reads = [calls(http, kb_id)[name] for name in ("a search by metadata", "a page")]
        reads.append(partial(slow_search, http, kb_id))
        for _ in range(2):  # twice as many as an organisation may read at once
            for call in reads:
                leave(call, http)
        began = time.monotonic()
        while "xtrace_requests_in_flight 1.0" not in (text := watch.client.get("/metrics").text):
            assert time.monotonic() - began < 15, "statements go on whose clients have left"
            time.sleep(0.02)
        assert 'xtrace_refusals_total{code="client_left"} 6.0' in text
        found = {"kb_id": kb_id, "context_id": "ctx", "meta_filter": {"tag1": TAGS["tag1"]}}
        assert len(ok(watch.data("POST", "/chunk/meta/{org}", json=found))) == 100
        http.close()
        watch.close()


def test_a_filter_that_takes_too_long_is_refused(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_filter_s=1.0) as service:
        http = Http(service.first_credentials)
        kb_id = slow_stock(http)
        attempts: list[Callable[[], Any]] = [*calls(http, kb_id).values(), partial(slow_search, http, kb_id)]
        for call in attempts:
            assert "max_filter_s" in problem(call(), 422, "invalid_filter")
        http.insert(kb_id, [chunk()])
        http.close()


def slow_search(http: Http, kb_id: str) -> httpx2.Response:
    body = {"kb_id": kb_id, "context_id": "ctx", "query": chunk()["index"], "meta_filter": SLOW}
    return http.data("POST", "/compute_hamming/{org}", json=body)


def test_a_filter_with_too_many_evaluations_is_refused_before_it_runs(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_filter_cost=100) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb_id = http.new_kb()
        http.insert(kb_id, [chunk(i, meta_data={"tag1": f"t{i}"}) for i in range(1, 26)])
        four = [{"tag1": {"$contains": f"{i}"}} for i in range(1, 5)]
        indexed = [{"tag1": f"t{i}"} for i in range(1, 10)]
        filters: list[tuple[dict[str, Any], int]] = [
            ({"$or": four}, 20),  # four conditions for each of 25 chunks
            ({"$or": indexed}, 9),  # by an index, however many
            ({"tag2": {"$exists": False}}, 25),
        ]
        for filter_, found in filters:
            body = {"kb_id": kb_id, "context_id": "ctx", "meta_filter": filter_}
            assert len(ok(http.data("POST", "/chunk/meta/{org}", json=body))) == found
        for filter_ in ({"$or": [*four, indexed[0]]}, {"$nor": [{"$and": four}, indexed[0]]}):
            body = {"kb_id": kb_id, "context_id": "ctx", "meta_filter": filter_}
            words = problem(http.data("POST", "/chunk/meta/{org}", json=body), 422, "invalid_filter")
            assert "5 conditions" in words
            assert "25 chunks" in words
            assert "max_filter_cost" in words
        http.close()


@pytest.mark.sqlite  # PostgreSQL logs them itself
def test_a_slow_statement_is_logged_without_its_values(service: LiveService, caplog: pytest.LogCaptureFixture) -> None:
    http = Http(service.first_credentials)
    kb_id = slow_stock(http)
    for name, call in calls(http, kb_id).items():
        caplog.clear()
        call()
        (line,) = [json.loads(JsonFormatter().format(one)) for one in caplog.records if one.name == "xtrace.database"]
        assert (line["level"], line["message"]) == ("warning", "a slow statement"), name
        assert line["seconds"] > 1
        assert " FROM chunk " in line["statement"], name
        assert len(line["statement"]) < 600
        assert not re.search(r"(\d)\1{4}", json.dumps(line)), name
    http.close()


def test_slow_statements_do_not_keep_the_server_from_ending(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    server = ServerProcess(
        tmp_path, port=unused_tcp_port_factory(), request_timeout_s=300, shutdown_timeout_s=1, metrics="loopback"
    )
    server.start()
    http = Http(server.credentials)
    kb_id = slow_stock(http)
    failed = threading.Semaphore(0)

    def hang(call: Callable[[], Any]) -> None:
        with pytest.raises(httpx2.TransportError):
            call()
        failed.release()

    for call in calls(http, kb_id).values():
        threading.Thread(target=hang, args=(call,), daemon=True).start()
    watch = Http(server.credentials)
    while "xtrace_requests_in_flight 5" not in watch.client.get("/metrics").text:
        time.sleep(0.01)
    assert server.terminate() == 0
    for _ in range(4):
        assert failed.acquire(timeout=30)
    watch.close()
