"""`xtrace backup` beside a server that is written to, and `xtrace restore`: the restored service answers the same."""

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.test_rotation import COUNT, load, new_context
from support.service import Http, LiveService, chunk, ok, running_service
from support.terminal import Terminal
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

QUERIES = np.random.default_rng(15).integers(0, 2, (5, 64), dtype=np.uint8)


class Writer(threading.Thread):
    """Inserts three chunks at a time until it is told to end."""

    def __init__(self, http: Http, kb_id: str) -> None:
        super().__init__()
        self._http, self._kb_id = http, kb_id
        self.stored = 0
        self.more = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            self._http.insert(self._kb_id, [chunk(), chunk(2), chunk(3)])
            self.stored += 3
            self.more.set()


async def answers(credentials: Credentials, kb_id: str, context: ExecutionContext) -> list[object]:
    """What the client finds and decrypts, for several queries, with everything that belongs to it."""
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        retriever = Retriever(context, xtrace)
        found: list[object] = [await xtrace.meta_search(kb_id, {"tag1": "tag 1"}, context.id)]
        for query in QUERIES[:, : context.embed_len()]:
            ids, distances = await retriever.nn_search_for_ids(query, COUNT, kb_id, include_scores=True)
            found.append((ids, distances, await retriever.retrieve_and_decrypt(ids, kb_id)))
    return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    """A server with a folder that nothing else is in."""
    with running_service(tmp_path / "data") as service:
        yield service


@pytest.fixture
def host(shell: Terminal, service: LiveService) -> Iterator[Terminal]:
    """A shell on the server's host."""
    shell.environment["XTRACE_DATA"] = str(service.folder)
    yield shell
    for text in shell.seen:
        assert service.first_credentials.api_key not in text


async def test_a_restored_service_answers_searches_as_the_original_did(
    host: Terminal, service: LiveService, tmp_path: Path
) -> None:
    credentials, context = service.first_credentials, new_context()
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb_id = (await xtrace.create_kb("texts")).id
        await load(context, xtrace, kb_id)
    before = await answers(credentials, kb_id, context)
    http = Http(credentials)
    http.save_context()
    busy_kb = http.new_kb()
    writer = Writer(http, busy_kb)
    writer.start()
    assert writer.more.wait(30)
    acknowledged = writer.stored
    done = host("backup backup.tar --json").json
    sent_at_most = writer.stored + 3
    writer.more.clear()
    assert writer.more.wait(30), "writes do not go on after a backup"
    writer.ended.set()
    writer.join()
    http.close()
    assert acknowledged < sent_at_most - 3, "nothing was written while the backup ran"
    assert set(done) == {"bytes", "rows", "created_at"}
    assert done["bytes"] == (host.folder / "backup.tar").stat().st_size

    restored = host(f"restore backup.tar --data {tmp_path / 'restored'} --json")
    assert restored.json == done
    assert "start the server to use it" in restored.err
    with running_service(tmp_path / "restored") as other:
        assert not (other.folder / "credentials.json").exists()
        credentials.api_url = other.url
        assert await answers(credentials, kb_id, context) == before
        http = Http(credentials)
        stored = ok(http.control("GET", f"/kbs/{busy_kb}"))["numberOfVectors"]
        assert acknowledged <= stored <= sent_at_most
        assert stored % 3 == 0, "a request is there by half"
        assert [one["chunk_id"] for one in http.get(busy_kb, *range(1, stored + 10))] == [*range(1, stored + 1)]
        assert len(http.search(busy_kb, [b"\1"])) == stored
        assert http.insert(busy_kb, [chunk()]) == [stored + 1]
        http.close()


def test_an_archive_has_hashes_and_no_keys_and_opens_with_common_tools(host: Terminal, service: LiveService) -> None:
    credentials = service.first_credentials
    assert host("backup backup.tar").status == 0
    archive = (host.folder / "backup.tar").read_bytes()
    for key in (credentials.admin_key, credentials.api_key):
        assert key.encode() not in archive
        assert hashlib.sha256(key.encode()).hexdigest().encode() in archive
    subprocess.run(["tar", "xf", "backup.tar"], cwd=host.folder, check=True)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=host.folder, check=True)


def test_what_cannot_be_backed_up_or_restored_is_one_sentence(host: Terminal, service: LiveService) -> None:
    plain = host("backup backup.tar").text
    assert host("restore --check backup.tar").text == plain
    assert [line.split()[0] for line in plain.splitlines()] == ["created_at", "rows", "bytes"]
    host("backup backup.tar").fails("backup.tar exists: name a new file")
    host("backup other.tar --data nowhere").fails("no database was found in")
    host("backup /proc/no/other.tar").fails("/proc/no/other.tar cannot be written")
    host("restore backup.tar").fails("a database exists in")
    for words in ("restore --data new", "restore --check"):
        host(f"{words} nowhere.tar").fails("nowhere.tar cannot be used: No such file")
        host(f"{words} data").fails("data is not a regular file")
        host(f"{words} /dev/stdin").fails("/dev/stdin is not a regular file")
        host(f"{words} data/credentials.json").fails("credentials.json cannot be used: it is damaged")
    sound = (host.folder / "backup.tar").read_bytes()
    (host.folder / "backup.tar").write_bytes(sound[:-600])
    for words in ("restore backup.tar --data new", "restore --check backup.tar"):
        host(words).fails("backup.tar cannot be used: it is damaged")
    assert sorted(path.name for path in host.folder.iterdir()) == ["backup.tar", "data"]
