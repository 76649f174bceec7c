"""Two servers behind a balancer are restarted in turn, as for an update, while programs write and search."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import databases
from support.balancer import balancer
from support.databases import database_settings
from support.sdk_load import sdk_load
from support.server_process import ServerProcess

DATABASES = (databases.POSTGRES,)
pytestmark = [pytest.mark.usefixtures("database"), pytest.mark.full]

ROUNDS = 2
DRAIN_S = 1.0
"""Longer than the balancer needs to notice, as docs/operations.md asks."""


@pytest.fixture
def servers(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Iterator[list[ServerProcess]]:
    shared = database_settings(tmp_path / "one")
    made = [
        ServerProcess(tmp_path / name, port=unused_tcp_port_factory(), drain_s=DRAIN_S, **shared)
        for name in ("one", "two")
    ]
    for server in made:
        server.start()
    yield made
    for server in made:
        assert server.terminate() == 0


@pytest.mark.timeout(600)
def test_programs_notice_nothing_and_nothing_is_lost(servers: list[ServerProcess]) -> None:
    with balancer([server.url for server in servers]) as url:
        (credentials := servers[0].credentials).api_url = url
        with sdk_load(credentials) as load:
            load.wait_for_more()
            for server in servers * ROUNDS:
                assert server.terminate() == 0
                load.wait_for_more()  # at the other one
                server.start()
                load.wait_for_more()
        assert load.stored >= 20 * 2 * ROUNDS
        assert load.searches >= 2 * ROUNDS
