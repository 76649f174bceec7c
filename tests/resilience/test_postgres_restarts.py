"""PostgreSQL is killed amid writes and started again, time after time: clients are put off, nothing is lost or doubled.

`XTRACE_TEST_DATABASE_KILLS` sets the number of kills: 4 by default, 25 in the full tier.
"""

import os
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from support import databases
from support.ledger import Client, check, successor
from support.postgres import Postgres
from support.server_process import ServerProcess
from support.service import Http, problem
from xtrace_sdk.sync import DataLoader, Retriever, XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

DATABASES = (databases.POSTGRES,)
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.long]

KILLS = int(os.environ.get("XTRACE_TEST_DATABASE_KILLS", "25" if "XTRACE_TEST_FULL" in os.environ else "4"))
CLIENTS = 4
DIM = 24


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


def test_the_client_absorbs_a_restart_of_the_database(own: Postgres, server: ServerProcess) -> None:
    credentials = server.credentials
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)
    vectors = np.random.default_rng(1).integers(0, 2, (300, DIM)).tolist()
    chunks = [{"chunk_content": f"text {i}"} for i in range(len(vectors))]
    with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb_id = xtrace.create_kb("kb").id
        loader = DataLoader(context, xtrace)

        def load() -> int:
            return sum(loader.load(chunks[i : i + 20], vectors[i : i + 20], kb_id).stored for i in range(0, 300, 20))

        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(load)
            for _ in range(2):
                time.sleep(0.4)
                own.kill()
                own.start()
            assert loading.result() == len(chunks)
        ids = Retriever(context, xtrace).nn_search_for_ids(vectors[0], 300, kb_id)
        assert len(ids) == len(chunks)
