"""`xtrace db copy`: from SQLite to PostgreSQL and back everything is the same, and nothing is ever there by half."""

import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest

from contract.test_rotation import COUNT, load, new_context
from resilience.test_backups import begun, dump, filled
from support import databases
from support.service import Http, LiveService, chunk, ok, running_service
from support.terminal import COMMAND, Terminal
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DATABASES = (databases.POSTGRES,)
pytestmark = pytest.mark.usefixtures("database")

MARK = "SELECT to_regclass('xtrace_unfinished') IS NOT NULL, to_regclass('alembic_version') IS NOT NULL"


@pytest.fixture
def host(tmp_path: Path) -> Terminal:
    """A shell on the host of the servers."""
    return Terminal(tmp_path)


@pytest.fixture
def url(tmp_path: Path, database: str) -> str:
    """The URL of an empty database of PostgreSQL."""
    return databases.postgres.url(tmp_path)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that has stopped, with enough chunks that a copy takes a while."""
    folder = tmp_path_factory.mktemp("many") / "data"
    yield filled_sqlite(folder, 8000)
    shutil.rmtree(folder)


def filled_sqlite(folder: Path, count: int) -> Path:
    databases.use(databases.SQLITE)
    try:
        return filled(folder, count, 200)
    finally:
        databases.use(databases.POSTGRES)


def marked(folder: Path) -> tuple[bool, bool]:
    """Whether the database of PostgreSQL for the folder is unfinished, and whether it is there."""
    unfinished, there = databases.execute(folder, MARK)[0]
    return bool(unfinished), bool(there)


async def answers(url: str, credentials: Credentials, kb_id: str, context: ExecutionContext) -> list[object]:
    """What a client finds and decrypts at a server."""
    async with XTraceIntegration(credentials.org_id, credentials.api_key, credentials.admin_key, url) as xtrace:
        retriever = Retriever(context, xtrace)
        found: list[object] = [await xtrace.meta_search(kb_id, {"facets": "a"}, context.id), await xtrace.list_kbs()]
        for query in np.random.default_rng(3).integers(0, 2, (3, context.embed_len()), dtype=np.uint8):
            ids, distances = await retriever.nn_search_for_ids(query, COUNT, kb_id, include_scores=True)
            found.append((ids, distances, await retriever.retrieve_and_decrypt(ids, kb_id)))
    return found


async def fill(service: LiveService) -> tuple[Credentials, str, ExecutionContext]:
    """Stores something of every kind."""
    credentials, context = service.first_credentials, new_context()
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        await context.save_to_remote(xtrace)
        kb_id = (await xtrace.create_kb("texts")).id
        ids = await load(context, xtrace, kb_id, COUNT + 2)
        await xtrace.delete_chunks(ids[-2:], kb_id)
        await xtrace.create_kb("to be deleted")
    http = Http(service.new_organisation())
    http.save_context()
    http.insert(http.new_kb(), [chunk(name="é", meta_data={"tag5": "", "facets": ["b", "b"]})])
    key = ok(http.control("POST", "/keys", json={"name": "k", "default_permission": 1}))["apiKey"]["hash"]
    ok(http.control("PATCH", f"/keys/{key}/status/revoke"))
    ok(http.control("DELETE", f"/kbs/{http.new_kb()}"))
    http.close()
    return credentials, kb_id, context


async def test_from_sqlite_to_postgres_and_back_it_is_the_same(host: Terminal, url: str, tmp_path: Path) -> None:
    with running_service(tmp_path / "one", database_url=None) as service:
        credentials, kb_id, context = await fill(service)
        before = await answers(service.url, credentials, kb_id, context)
    done = host(f"db copy one {url} --json").json
    assert set(done) == {"rows", "bytes", "sha256", "created_at"}
    back = host(f"db copy {url} two --json")
    assert "not in TO" in back.err
    assert {**back.json, "created_at": "", "sha256": ""} == {**done, "created_at": "", "sha256": ""}
    assert dump(tmp_path / "one") == dump(tmp_path / "two")
    assert (tmp_path / "two" / "xtrace.db").stat().st_mode & 0o777 == 0o600
    for folder, more in ((tmp_path / "three", {"database_url": url}), (tmp_path / "two", {"database_url": None})):
        with running_service(folder, **more) as service:
            assert await answers(service.url, credentials, kb_id, context) == before
            credentials.api_url = service.url
            http = Http(credentials)
            assert http.new_kb() not in str(before)  # numbers go on
            assert len(http.search(kb_id, [b"\1" * 64], context=context.id)) == COUNT
            http.close()


@pytest.mark.full
def test_a_copy_beside_a_server_is_of_one_moment(host: Terminal, url: str, tmp_path: Path) -> None:
    with running_service(tmp_path / "one", database_url=None) as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        http.insert(kb, [chunk()] * 3)
        with host.start(f"db copy one {url}").process as process:
            stored = 3
            while process.poll() is None:
                stored += len(http.insert(kb, [chunk()] * 3))
        assert process.returncode == 0
        http.close()
    with running_service(tmp_path / "two", database_url=url) as service:
        (credentials := http.credentials).api_url = service.url
        http = Http(credentials)
        copied = ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"]
        assert 3 <= copied <= stored
        assert copied % 3 == 0
        assert len(http.search(kb, [b"\1"])) == copied
        http.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.full)])
def test_a_copy_to_postgres_that_is_ended_is_repeated(
    number: signal.Signals, many: Path, host: Terminal, url: str, tmp_path: Path
) -> None:
    process = Popen([COMMAND, "db", "copy", many, url], stderr=subprocess.DEVNULL)
    while marked(tmp_path) != (True, False):
        assert process.poll() is None, "the command ended too early"
        time.sleep(0.002)
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 130)
    assert marked(tmp_path) == (number == signal.SIGKILL, False)
    if number == signal.SIGKILL:
        host(f"serve --port 0 --data new --database {url}").fails(
            "is running or was interrupted: run it again, or drop its table xtrace_unfinished"
        )
    assert host(f"db copy {many} {url}").status == 0
    assert marked(tmp_path) == (False, True)
    assert host(f"db copy {url} back").status == 0
    assert dump(tmp_path / "back") == dump(many)


@pytest.mark.full
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_copy_to_sqlite_that_is_ended_is_repeated(
    number: signal.Signals, many: Path, host: Terminal, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    process = Popen([COMMAND, "db", "copy", many, folder], stderr=subprocess.DEVNULL)
    begun(process, folder, ".restoring.*/xtrace.db")
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 130)
    assert folder.exists() == (number == signal.SIGKILL)
    if number == signal.SIGKILL:
        host(f"serve --port 0 --data {folder}").fails("is running or was interrupted: run it again, or remove")
    assert host(f"db copy {many} {folder}").status == 0
    assert [path.name for path in folder.iterdir()] == ["xtrace.db"]
    assert dump(folder) == dump(many)


@pytest.mark.full
def test_what_cannot_be_copied_is_one_sentence(many: Path, host: Terminal, url: str, tmp_path: Path) -> None:
    host("db copy nowhere new").fails("no database was found in")
    host(f"db copy {url} new").fails("no database was found in the PostgreSQL database")
    host(f"db copy {many} {many}").fails("a database exists in")
    host(f"db copy {many} mysql://root@host/xtrace").fails("expected a folder or a postgresql:// URL", 2)
    host(f"db copy {many} postgresql://me:secret@host/xtrace").fails("PGPASSWORD", 2)
    host(f"db copy {many} postgresql://me@/none?host={tmp_path}").fails("cannot be reached")
    (tmp_path / "other").mkdir()
    with closing(sqlite3.connect(tmp_path / "other" / "xtrace.db")) as connection:
        connection.execute("CREATE TABLE foreign_one (a)")
    host("db copy other new").fails("has a version that this version of XTrace does not support")
    assert not (tmp_path / "new").exists()
    assert host(f"db copy {many} {url}").status == 0
    host(f"db copy {many} {url}").fails("a database exists in the PostgreSQL database")
    host(f"db copy {url} {many}").fails("a database exists in")
