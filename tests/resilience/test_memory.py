"""What requests hold in memory has a bound, however many there are and however slowly they are sent and read."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.server_process import ServerProcess
from support.service import Http, chunk, ok, problem

MIB = 2**20
BODY = 2 * MIB
REQUESTS = 6 * BODY
"""The least that is allowed: one organisation may take half, which is one body of the greatest size."""
CONTENT = "0123456789abcdef" * 1250
CHUNKS = 2000
READERS = 6


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> Iterator[ServerProcess]:
    server = ServerProcess(
        tmp_path_factory.mktemp("memory") / "data",
        port=unused_tcp_port_factory(),
        max_body_bytes=BODY,
        cache_bytes=0,
        search_memory_bytes=0,
        memory_bytes=64 * MIB + REQUESTS,
        metrics="loopback",
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def http(server: ServerProcess) -> Iterator[Http]:
    http = Http(server.credentials)
    yield http
    http.close()


@pytest.fixture(scope="module")
def kb(server: ServerProcess) -> str:
    """A knowledge base with 40 MB of contents."""
    http = Http(server.credentials)
    http.save_context()
    kb = http.new_kb()
    for _ in range(CHUNKS // 50):
        http.insert(kb, [chunk(chunk_content=CONTENT) for _ in range(50)])
    http.close()
    return kb


def taken(http: Http) -> dict[str, float]:
    found = re.findall(r'xtrace_memory_bytes\{part="(\w+)"\} (\S+)', http.client.get("/metrics").text)
    return {part: float(size) for part, size in found}


def resident(server: ServerProcess) -> int:
    (size,) = re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    return int(size) * 1024


def test_slow_readers_of_long_answers_share_a_bound(server: ServerProcess, http: Http, kb: str) -> None:
    url = f"{http.credentials.api_url}/v1/chunk/meta/{http.org}"
    body = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}, "return_content": True}
    ok(http.data("POST", "/chunk/meta/{org}", json=body))
    before = resident(server)
    with ExitStack() as stack:
        client = stack.enter_context(httpx2.Client(timeout=60))
        asked = [client.stream("POST", url, json=body, headers=http.data_headers) for _ in range(READERS)]
        answers = [stack.enter_context(stream) for stream in asked]
        parts = taken(http)
        assert 0 < parts["answers"] <= REQUESTS / 2
        # 240 MB of answers, of which nothing is read. SQLite's caches are 16 MiB for each of the four readers.
        assert resident(server) - before < REQUESTS + (4 * 16 + 30) * MIB
        # Whatever waits in memory or in files arrives whole, in order.
        for answer in answers:
            assert answer.status_code == 200
            found = json.loads(answer.read())
            assert [one["chunk_id"] for one in found] == list(range(1, CHUNKS + 1))
            assert {one["chunk_content"] for one in found} == {CONTENT}
    while taken(http)["answers"]:
        time.sleep(0.01)  # the last request leaves after its answer was read


def test_the_file_of_an_answer_goes_when_its_reader_leaves(server: ServerProcess, http: Http, kb: str) -> None:
    url = f"{http.credentials.api_url}/v1/chunk/meta/{http.org}"
    body = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}, "return_content": True}
    with httpx2.Client(timeout=60) as client:
        for _ in range(3):
            with client.stream("POST", url, json=body, headers=http.data_headers) as answer:
                assert answer.status_code == 200
                assert files_without_a_name(server) > 0
    while files_without_a_name(server):
        time.sleep(0.01)


def files_without_a_name(server: ServerProcess) -> int:
    """Temporary files in the data folder that the server has open."""
    found = 0
    for link in Path(f"/proc/{server.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            target = str(link.readlink())
            found += str(server.folder) in target and target.endswith("(deleted)")
    return found


def test_a_long_page_arrives_whole(http: Http, kb: str) -> None:
    body = {
        "kb_id": kb,
        "context_id": "ctx",
        "meta_filter": {},
        "limit": CHUNKS - 1,
        "return_content": True,
        "sort_order": "asc",
    }
    page = ok(http.data("POST", "/chunk/meta/page/{org}", json=body))
    assert (page["total"], page["has_more"]) == (CHUNKS, True)
    assert [one["chunk_id"] for one in page["results"]] == list(range(1, CHUNKS))


def test_bodies_wait_for_memory_instead_of_being_refused(server: ServerProcess, http: Http, kb: str) -> None:
    """Eight bodies of nearly the greatest size at once: only one has room."""
    content = "c" * (BODY - 10_000)
    done: list[int] = []

    def insert() -> None:
        own = Http(server.credentials)
        done.append(own.insert(kb, [chunk(chunk_content=content)])[0])
        own.close()

    threads = [threading.Thread(target=insert) for _ in range(8)]
    for thread in threads:
        thread.start()
    most = 0.0
    while any(thread.is_alive() for thread in threads):
        most = max(most, taken(http)["bodies"])
    assert len(set(done)) == 8
    assert most <= REQUESTS / 2


def test_a_body_that_does_not_come_holds_no_more_than_its_share(http: Http, kb: str, server: ServerProcess) -> None:
    def slowly() -> Iterator[bytes]:
        yield b" "
        assert waiting.wait(60)
        yield b"{}" + b" " * (BODY - 3)

    waiting = threading.Event()
    own = Http(server.credentials)
    answers: list[httpx2.Response] = []

    def send() -> None:
        headers = {"content-length": str(BODY)}
        answers.append(own.data("POST", "/chunk/{org}", content=slowly(), headers=headers))

    thread = threading.Thread(target=send)
    thread.start()
    while not taken(http)["bodies"]:
        time.sleep(0.01)
    assert taken(http)["bodies"] == 3 * BODY
    waiting.set()
    thread.join()
    problem(answers[0], 422, "invalid")
    own.close()


def test_budgets_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    from xtrace_server.settings import Settings

    fields: dict[str, Any] = {"data": tmp_path, "cache_bytes": 2**30}
    with pytest.raises(ValueError, match="memory_bytes is 1073741824, expected at least 1610612736"):
        Settings(**fields)
    assert Settings(**fields, memory_bytes=1_610_612_736).request_memory_bytes == 6 * 64 * MIB
