"""The server is killed with SIGKILL at random moments while clients write, and started again: what was acknowledged is
there, what was not is there wholly or not at all, and the counts agree.

`XTRACE_TEST_KILLS` sets the number of kills: 15 by default, 60 in the full tier.
"""

import os
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from support import databases
from support.ledger import Client, check, successor
from support.server_process import ServerProcess
from support.service import Http

KILLS = int(os.environ.get("XTRACE_TEST_KILLS", "30" if "XTRACE_TEST_FULL" in os.environ else "15"))
CLIENTS = 4


def check_file(folder: Path) -> None:
    if databases.current() != databases.SQLITE:
        return
    with closing(sqlite3.connect(folder / "xtrace.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        tables = ("chunk", "content", "ciphertext")
        counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
        assert len(set(counts)) == 1, counts


@pytest.mark.usefixtures("database")
@pytest.mark.long
@pytest.mark.timeout(60 + 10 * KILLS)
def test_killed_at_any_moment_it_has_everything_that_it_acknowledged(tmp_path: Path, unused_tcp_port: int) -> None:
    server = ServerProcess(tmp_path / "data", port=unused_tcp_port)
    server.start()
    http = Http(server.credentials)
    http.save_context()
    kb = http.new_kb()
    dice = random.Random(KILLS)
    clients = [Client(server, kb, number) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    unanswered = total = 0
    try:
        for kill in range(1, KILLS + 1):
            time.sleep(dice.uniform(0.0, 0.4))
            server.kill()
            if kill % 10 and kill != KILLS:
                server.start()
                continue
            # A settlement: the clients rest, so that what is stored stays as it is while it is compared.
            for client in clients:
                client.ended.set()
            for client in clients:
                client.join(30)
                assert client.refusals == []
            check_file(server.folder)
            server.start()
            unanswered += sum(client.ledger.in_doubt for client in clients)
            total = check(http, kb, clients)
            if kill != KILLS:
                clients = [successor(server, kb, client) for client in clients]
    finally:
        for client in clients:
            client.ended.set()
            client.join(30)
    acknowledged = sum(client.ledger.acknowledged for client in clients)
    assert acknowledged > 10 * CLIENTS
    assert unanswered > 0, "no kill has met a request"
    assert server.terminate() == 0
    check_file(server.folder)
    http.close()
    # Shown with `pytest -s`.
    print(f"{KILLS} kills, {acknowledged} writes acknowledged, {unanswered} in doubt, {total} chunks at the end")
