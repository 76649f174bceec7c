"""PostgreSQL is killed and restarted amid writes and searches: clients are put off, nothing is lost or doubled.

`XTRACE_TEST_DATABASE_KILLS` sets the number of kills: 4 by default, 25 in the full tier.
"""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import databases
from support.ledger import Client, check, successor
from support.postgres import Postgres
from support.sdk_load import sdk_load
from support.server_process import ServerProcess
from support.service import Http, problem

DATABASES = (databases.POSTGRES,)
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.long]

KILLS = int(os.environ.get("XTRACE_TEST_DATABASE_KILLS", "12" if "XTRACE_TEST_FULL" in os.environ else "4"))
CLIENTS = 4


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A PostgreSQL that no other test uses."""
    server = Postgres()
    if not server.is_ours:
        pytest.skip("the PostgreSQL of XTRACE_TEST_DATABASE_URL is not for the tests to kill")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(own: Postgres, tmp_path: Path, unused_tcp_port: int) -> Iterator[ServerProcess]:
    made = ServerProcess(tmp_path / "data", port=unused_tcp_port, database_url=own.url(tmp_path))
    made.start()
    yield made
    assert made.terminate() == 0


@pytest.mark.timeout(60 + 15 * KILLS)
def test_killed_at_any_moment_it_has_everything_that_was_acknowledged(own: Postgres, server: ServerProcess) -> None:
    http = Http(server.credentials)
    http.save_context()
    kb = http.new_kb()
    dice = random.Random(KILLS)
    clients = [Client(server, kb, number) for number in range(CLIENTS)]
    for client in clients:
        client.database_may_fail = True
        client.start()
    try:
        for kill in range(1, KILLS + 1):
            time.sleep(dice.uniform(0.2, 1.0))
            own.kill()
            time.sleep(dice.uniform(0.0, 0.3))
            own.start()
            if kill % 2 and kill != KILLS:
                continue
            for client in clients:
                client.ended.set()
            for client in clients:
                client.join(60)
                assert client.refusals == []
            server.wait_until_ready()
            check(http, kb, clients)
            if kill != KILLS:
                clients = [successor(server, kb, client) for client in clients]
    finally:
        for client in clients:
            client.ended.set()
            client.join(60)
        http.close()
    assert sum(client.ledger.acknowledged for client in clients) > CLIENTS


def test_without_its_database_a_server_puts_everybody_off(own: Postgres, server: ServerProcess) -> None:
    http = Http(server.credentials)
    http.save_context()
    kb = http.new_kb()
    own.kill()
    for answer in (
        http.control("GET", "/kbs"),
        http.data("GET", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}),
        http.client.get("/readyz"),
    ):
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
    problem(http.control("GET", "/kbs"), 503, "unavailable")
    assert http.client.get("/livez").status_code == 200
    own.start()
    server.wait_until_ready()
    assert http.control("GET", "/kbs").status_code == 200
    http.close()


RESTARTS = {"clean": signal.SIGINT, "immediate": signal.SIGQUIT, "killed": None}


@pytest.mark.parametrize(
    "how", ["killed", *[pytest.param(one, marks=pytest.mark.full) for one in ("clean", "immediate")]]
)
def test_programs_notice_nothing_of_a_restart_of_the_database(
    own: Postgres, tmp_path: Path, unused_tcp_port: int, how: str
) -> None:
    # Without a cache every search reads the database while its answer is under way.
    settings = {"cache_bytes": 0, "search_memory_bytes": 0}
    server = ServerProcess(tmp_path / "data", port=unused_tcp_port, database_url=own.url(tmp_path), **settings)
    server.start()
    number = RESTARTS[how]
    http = Http(server.credentials)
    with sdk_load(server.credentials) as load:
        for _ in range(3):
            load.wait_for_more()
            own.kill() if number is None else own.end(number)
            put_off = http.control("GET", "/kbs")
            assert (put_off.status_code, int(put_off.headers["retry-after"]) > 0) == (503, True)
            own.start()
            load.wait_for_more()
    http.close()
    assert server.terminate() == 0
