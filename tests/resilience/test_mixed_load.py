"""Everything at once for two minutes: memory and descriptors stay flat, and every answer that was acknowledged holds.

`XTRACE_TEST_LOAD_S=1800` makes half an hour of it.
"""

import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import databases
from support.ledger import QUERY, Client, check
from support.server_process import ServerProcess
from support.service import Http, ok

WRITERS = 4
MOST_CHUNKS = 400
"""Of one writer, so that the stock does not grow."""
LONG_S = float(os.environ.get("XTRACE_TEST_LOAD_S", "120"))
"""Of the full tier; over PostgreSQL half of it, because what holds memory is the same server."""
GROWTH = 1.1
GROWTH_BYTES = 16 * 2**20
"""By how much the highest memory of the last quarter may exceed that of the second one: what the allocator keeps."""


class Writer(Client):
    """Writes, and deletes what is too much."""

    def _step(self) -> None:
        if len(self.ledger.sure) > MOST_CHUNKS:
            self._remove(self._dice.sample(sorted(self.ledger.sure), MOST_CHUNKS // 4))
        else:
            super()._step()


class Reader(threading.Thread):
    """Searches with and without filters, reads pages, lists, asks for what is not there, and opens new connections."""

    def __init__(self, server: ServerProcess, kb: str, number: int) -> None:
        super().__init__(name=f"reader-{number}")
        self._server, self._kb, self._dice = server, kb, random.Random(100 + number)
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.done = 0

    def run(self) -> None:
        try:
            while not self.ended.is_set():
                http = Http(self._server.credentials)
                for _ in range(self._dice.randrange(1, 30)):
                    self._step(http)
                    self.done += 1
                http.close()
        except BaseException as failure:
            self.failure = failure

    def _step(self, http: Http) -> None:
        tag = {"tag1": str(self._dice.randrange(WRITERS))}
        body = {"kb_id": self._kb, "context_id": "ctx", "meta_filter": tag, "return_content": True}
        match self._dice.randrange(5):
            case 0:
                http.search(self._kb, QUERY)
            case 1:
                http.search(self._kb, QUERY, meta_filter=tag)
            case 2:
                ok(http.data("POST", "/chunk/meta/{org}", json=body))
            case 3:
                ok(http.control("GET", "/kbs"))
            case _:
                assert http.data("GET", "/chunk/{org}", params={"kb_id": "none", "chunk_ids": 1}).status_code == 404


def held(server: ServerProcess) -> tuple[int, int]:
    """The bytes of memory and the open files of the server."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", status)
    return int(kilobytes) * 1024, len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


@pytest.fixture
def server(database: str, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path / "data", port=unused_tcp_port_factory(), cache_bytes=64 * 2**20)
    made.start()
    yield made
    assert made.terminate() == 0


@pytest.mark.parametrize(
    "seconds",
    [4.0, pytest.param(LONG_S, marks=[pytest.mark.full, pytest.mark.long, pytest.mark.timeout(LONG_S + 300)])],
)
def test_memory_and_descriptors_stay_flat_and_what_was_acknowledged_holds(
    server: ServerProcess, seconds: float
) -> None:
    if seconds == LONG_S and databases.current() == databases.POSTGRES:
        seconds /= 2
    http = Http(server.credentials)
    http.save_context()
    kb = http.new_kb()
    writers = [Writer(server, kb, number) for number in range(WRITERS)]
    readers = [Reader(server, kb, number) for number in range(3)]
    threads: list[Writer | Reader] = [*writers, *readers]
    for thread in threads:
        thread.start()
    samples = []
    for _ in range(40):
        time.sleep(seconds / 40)
        samples.append(held(server))
    for thread in threads:
        thread.ended.set()
    for thread in threads:
        thread.join(60)
    assert [reader.failure for reader in readers] == [None] * 3
    assert [refusal for writer in writers for refusal in writer.refusals] == []
    assert sum(writer.ledger.in_doubt for writer in writers) == 0
    total = check(http, kb, writers)
    assert 0 < total <= WRITERS * (MOST_CHUNKS + 40)
    second, last = samples[10:20], samples[30:]
    memory = max(one for one, _ in second), max(one for one, _ in last)
    files = max(one for _, one in second), max(one for _, one in last)
    done = sum(writer.ledger.acknowledged for writer in writers), sum(reader.done for reader in readers)
    print(f"\n{seconds:g} s: writes and reads {done}, MB {[one >> 20 for one in memory]}, files {files}")
    assert memory[1] <= memory[0] * GROWTH + GROWTH_BYTES
    assert files[1] <= files[0] + 2 * len(threads)
    http.close()
