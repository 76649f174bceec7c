"""A server of several workers: one that dies is replaced, all are replaced without a loss, none outlives its parent."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.dashboard import Visitor
from support.sdk_load import sdk_load
from support.server_process import ServerProcess
from support.service import Http, chunk, ok
from xtrace_sdk.sync import XTraceIntegration
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings
from xtrace_server.storage.folder_lock import FolderInUse, FolderLock

pytestmark = pytest.mark.usefixtures("database")
ROLLS = 3 if "XTRACE_TEST_FULL" in os.environ else 1


def children(pid: int) -> set[int]:
    """The processes that a process has started, zombies too."""
    return {int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def state_of(pid: int) -> str:
    """A letter of the kernel's; empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def expect_gone(pids: set[int]) -> None:
    wait_until(lambda: all(state_of(pid) in ("", "X", "Z") for pid in pids), "workers have outlived their parent")


def is_free(folder: Path) -> bool:
    try:
        with FolderLock(folder, shared=False):
            return True
    except FolderInUse:
        return False


@pytest.fixture
def server(tmp_path: Path, unused_tcp_port: int) -> Iterator[ServerProcess]:
    """Two workers and their parent."""
    made = ServerProcess(tmp_path / "data", port=unused_tcp_port, workers=2, metrics="loopback")
    made.start()
    wait_until(lambda: len(children(made.pid)) == 2, "there are not two workers")
    yield made
    if state_of(made.pid) not in ("", "X", "Z"):
        workers = children(made.pid)
        assert made.terminate() == 0
        expect_gone(workers)


@pytest.fixture
def url(server: ServerProcess) -> str:
    return server.credentials.api_url


def counted(url: str, route: str) -> float:
    """How often a route was asked for, as one scrape says."""
    text = httpx2.get(f"{url}/metrics").text
    return sum(float(value) for value in re.findall(rf'^xtrace_requests_total{{.*"{route}".*}} (\S+)$', text, re.M))


def test_one_scrape_shows_all_workers_and_what_a_dead_one_counted(server: ServerProcess, url: str) -> None:
    for _ in range(20):
        assert httpx2.get(f"{url}/livez").status_code == 200
    wait_until(lambda: all(counted(url, "/livez") == 20 for _ in range(8)), "a scrape shows one worker only")
    victim = min(children(server.pid))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in (now := children(server.pid)) and len(now) == 2, "the worker was not replaced")
    for _ in range(8):
        assert httpx2.get(f"{url}/readyz").status_code == 200
        assert counted(url, "/livez") == 20


def test_the_dashboard_shows_how_many_workers_serve(server: ServerProcess, url: str) -> None:
    visitor = Visitor(url)
    visitor.sign_in(server.credentials)
    wait_until(lambda: "2 of 2 serving" in visitor.get("/").text, "a worker is not shown")
    visitor.close()


class Afresh(Http):
    """Calls that each have a connection of their own, so that either worker may get them."""

    def data(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        self._connect()
        return super().data(method, path, **arguments)

    def control(self, method: str, path: str, **arguments: Any) -> httpx2.Response:
        self._connect()
        return super().control(method, path, **arguments)

    def _connect(self) -> None:
        self.client.close()
        self.client = httpx2.Client(base_url=self.credentials.api_url, timeout=60)


def test_what_one_worker_stored_or_forbade_holds_at_once_for_all(server: ServerProcess) -> None:
    http = Afresh(server.credentials)
    http.save_context()
    kb = http.new_kb()
    stored: list[int] = []
    for _ in range(8):
        stored += http.insert(kb, [chunk(), chunk()])
        assert len(http.search(kb, [b"\1"])) == len(stored)
        ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": stored.pop(0)}))
        assert len(http.search(kb, [b"\1"])) == len(stored)
        key = ok(http.control("POST", "/keys", json={"name": "k"}))
        key_hash, headers = key["apiKey"]["hash"], {"x-api-key": key["secretKey"]}
        ok(http.control("PUT", f"/keys/{key_hash}/permissions/{kb}", json={"permission": 1}))
        search = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}}
        ok(http.data("POST", "/chunk/meta/{org}", json=search, headers=headers))
        ok(http.control("PUT", f"/keys/{key_hash}/permissions/{kb}", json={"permission": 0}))
        assert http.data("POST", "/chunk/meta/{org}", json=search, headers=headers).status_code == 403
        ok(http.control("PATCH", f"/keys/{key_hash}/status/revoke"))
        assert http.data("POST", "/chunk/meta/{org}", json=search, headers=headers).status_code == 401
    http.close()


def test_a_rate_holds_for_all_workers_together(tmp_path: Path, unused_tcp_port: int) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port, workers=2, rate_limit="12/hour")
    server.start()
    http = Afresh(server.credentials)
    answers = [http.data("GET", "/exec_context/{org}") for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * 12 + [429] * 18
    assert 0 < int(answers[-1].headers["retry-after"]) <= 7200
    assert http.control("GET", "/kbs").status_code == 200  # each key by itself
    http.close()
    assert server.terminate() == 0


def test_no_worker_outlives_its_parent(server: ServerProcess) -> None:
    workers = children(server.pid)
    server.kill()
    expect_gone(workers)
    wait_until(lambda: is_free(server.folder), "the lock of the folder is still held")


@pytest.mark.full
def test_a_worker_that_hangs_is_replaced_within_the_time_that_is_documented(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    timeout_s = 2.0
    server = ServerProcess(tmp_path, port=unused_tcp_port, workers=2, worker_timeout_s=timeout_s)
    server.start()
    wait_until(lambda: len(children(server.pid)) == 2, "there are not two workers")
    credentials = server.credentials
    with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        for _ in range(2):
            before = children(server.pid)
            hung = min(before)
            os.kill(hung, signal.SIGSTOP)
            began = time.monotonic()
            # A call that the hung worker has is repeated by the client once the parent has killed it.
            while hung in children(server.pid):
                xtrace.list_kbs()
            # The looks and the parent's own start of a worker come on top; the machine of a test may be busy.
            assert timeout_s - 1 <= time.monotonic() - began < timeout_s + 2 + 8
            wait_until(lambda: len(children(server.pid)) == 2, "the worker was not replaced")
            assert len(before & children(server.pid)) == 1, "a worker that did not hang was replaced"
            xtrace.list_kbs()
    assert server.terminate() == 0


@pytest.mark.full
def test_a_worker_that_hangs_before_it_serves_is_replaced(tmp_path: Path, unused_tcp_port: int) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port, workers=2, worker_timeout_s=1.0)
    server.start()
    wait_until(lambda: len(children(server.pid)) == 2, "there are not two workers")
    first = children(server.pid)
    os.kill(server.pid, signal.SIGHUP)  # those that replace them have served before the others go
    wait_until(lambda: len(children(server.pid) - first) == 2 == len(children(server.pid)), "they were not replaced")
    before = children(server.pid)
    os.kill(min(before), signal.SIGKILL)
    while not (new := children(server.pid) - before):
        pass  # it takes a tenth of a second to serve
    (hung,) = new
    os.kill(hung, signal.SIGSTOP)
    wait_until(lambda: hung not in children(server.pid), "a worker that hangs at its start is still there")
    wait_until(lambda: len(children(server.pid)) == 2, "the worker was not replaced")
    http = Http(server.credentials)
    for _ in range(20):
        assert http.control("GET", "/kbs").status_code == 200
    http.close()
    assert server.terminate() == 0


@pytest.mark.full
def test_a_pause_of_the_parent_and_all_workers_is_not_taken_for_silence(tmp_path: Path, unused_tcp_port: int) -> None:
    """As a container is frozen for longer than the timeout, and goes on."""
    server = ServerProcess(tmp_path, port=unused_tcp_port, workers=2, worker_timeout_s=2.0)
    server.start()
    wait_until(lambda: len(children(server.pid)) == 2, "there are not two workers")
    workers = children(server.pid)
    for pid in [server.pid, *workers]:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in [server.pid, *workers]:
        os.kill(pid, signal.SIGCONT)
    http = Http(server.credentials)
    for _ in range(20):
        assert http.control("GET", "/kbs").status_code == 200
    http.close()
    assert children(server.pid) == workers
    assert server.terminate() == 0


def test_all_workers_drain_before_they_stop(tmp_path: Path, unused_tcp_port: int) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port, workers=2, drain_s=1.5)
    server.start()
    workers, url = children(server.pid), server.credentials.api_url
    os.kill(server.pid, signal.SIGTERM)
    wait_until(lambda: httpx2.get(f"{url}/readyz").status_code == 503, "the workers do not drain")
    assert httpx2.get(f"{url}/livez").status_code == 200
    assert server.join() == 0
    expect_gone(workers)


def test_a_rolling_restart_under_load_loses_nothing(server: ServerProcess) -> None:
    with sdk_load(server.credentials) as load:
        for _ in range(ROLLS):
            before = children(server.pid)
            os.kill(server.pid, signal.SIGHUP)
            wait_until(
                lambda before=before: not before & (now := children(server.pid)) and len(now) == 2,  # type: ignore[misc]
                "the workers were not replaced",
            )
        load.wait_for_more()
    assert load.stored > 0
    assert load.seen > 0


def test_settings_of_all_workers_are_divided(tmp_path: Path) -> None:
    given = Settings(workers=4, memory_bytes=4 * 2**30, cache_bytes=2**31, database_connections=24).of_worker
    assert (given.memory_bytes, given.cache_bytes, given.database_connections, given.workers) == (2**30, 2**29, 6, 1)
    assert given.search_memory_bytes == Settings().search_memory_bytes
    assert Settings(workers=4).of_worker == Settings()
    with pytest.raises(ValueError, match=r"memory_bytes is \d+ for 3 workers, expected at least 3221225472"):
        Settings(workers=3, memory_bytes=2**30, cache_bytes=3 * 2**29)
    with pytest.raises(ValueError, match="database_connections is 7 for 2 workers, expected at least 8"):
        Settings(workers=2, database_connections=7)
    with pytest.raises(CannotServe, match="use `xtrace serve`"):
        start(Settings(data=tmp_path, port=0, workers=2))
