"""One server on a folder, or several that all share it; and commands beside them."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from support.older_schema import make_older
from support.server_process import ServerProcess
from support.service import Http, running_service
from xtrace_server.serving import CannotServe, start
from xtrace_server.settings import Settings
from xtrace_server.storage.database import open_database
from xtrace_server.storage.dialects import DatabaseUnusable, default_url


def refused(folder: Path, shared: bool) -> None:
    with pytest.raises(CannotServe, match=r"another server runs on .*--shared"):
        start(Settings(data=folder, port=0, shared=shared))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_servers_run_together_only_if_both_were_started_to_share(first: bool, second: bool, tmp_path: Path) -> None:
    with running_service(tmp_path, shared=first) as one:
        before = (tmp_path / "credentials.json").read_bytes()
        if not (first and second):
            refused(tmp_path, second)
        else:
            with running_service(tmp_path, shared=True) as other:
                assert other.url != one.url
                http = Http(one.first_credentials)
                kb_id = http.new_kb()
                http.close()
                (credentials := one.first_credentials).api_url = other.url
                http = Http(credentials)
                assert [kb["id"] for kb in http.control("GET", "/kbs").json()] == [kb_id]
                http.close()
        assert (tmp_path / "credentials.json").read_bytes() == before
    with running_service(tmp_path, shared=second):  # nobody is left
        pass


def test_a_killed_server_leaves_no_lock_behind(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port_factory())
    server.start()
    refused(tmp_path, shared=True)
    server.kill()
    with running_service(tmp_path):
        pass


def test_any_number_of_servers_start_at_once_on_a_new_folder(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    servers = [ServerProcess(tmp_path, port=unused_tcp_port_factory(), shared=True) for _ in range(3)]
    for server in servers:
        server.begin()
    for server in servers:
        server.wait_until_ready()
    http = Http(servers[0].credentials)
    assert http.control("GET", "/kbs").json() == []
    http.close()
    for server in servers:
        assert server.terminate() == 0


def _older(folder: Path) -> None:
    """Makes the database say that it is of an older version; a server that runs on it finds all that it needs."""
    with closing(sqlite3.connect(folder / "xtrace.db")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()


async def test_a_command_does_not_migrate_under_a_running_server(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port_factory())
    server.start()
    async with open_database(default_url(tmp_path), tmp_path):
        pass  # beside a server of the same version a command works
    _older(tmp_path)
    with pytest.raises(DatabaseUnusable, match=r"schema of another version, and a server runs on .*: stop it first"):
        async with open_database(default_url(tmp_path), tmp_path):
            pass
    server.kill()
    make_older(tmp_path / "xtrace.db")
    async with open_database(default_url(tmp_path), tmp_path):
        pass


def test_a_shared_server_does_not_migrate_under_another(tmp_path: Path) -> None:
    with running_service(tmp_path, shared=True):
        _older(tmp_path)
        with pytest.raises(CannotServe, match="schema of another version"):
            start(Settings(data=tmp_path, port=0, shared=True))
