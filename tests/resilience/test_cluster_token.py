"""A cluster that asks for a token: a server with the token computes in it, one with another token does not."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.ray_cluster import NEEDED, until
from support.service import Http, chunk, running_service
from support.toy_paillier import toy_key

pytestmark = [NEEDED, pytest.mark.full, pytest.mark.timeout(600)]

TOKEN, ANOTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
QUERY = [toy_key().encrypt(1000)]


@contextmanager
def guarded_node(port: int) -> Iterator[str]:
    """The address of a node of Ray that computes and asks for the token; all its processes are its own."""
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
    options = ["--num-cpus=1", "--include-dashboard=false", f"--object-store-memory={128 * 2**20}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}", *options]
    # Not in the test's own folder: the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        process = subprocess.Popen(
            [*command, f"--temp-dir={folder}"], env=environment, stdout=subprocess.DEVNULL, start_new_session=True
        )
        try:
            yield f"127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_only_a_server_with_the_token_computes_in_the_cluster(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with guarded_node(unused_tcp_port_factory()) as address:
        settings = {"engine": "ray", "ray_address": address, "ray_min_rows": 0, "metrics": "loopback"}
        for name, token in (("right", TOKEN), ("wrong", ANOTHER)):
            monkeypatch.setenv("RAY_AUTH_TOKEN", token)
            with running_service(tmp_path / name, **settings) as service:
                nodes = service.server.app.state.server.engine.cluster()["nodes"]
                if name == "right":
                    until(nodes, "the server is connected to the cluster")
                http = Http(service.first_credentials)
                http.save_context()
                kb = http.new_kb()
                ids = http.insert(kb, [chunk(i) for i in range(50)])
                found = [row[1] for row in http.search(kb, QUERY)]
                assert found == ids
                searched = httpx2.get(f"{service.url}/metrics").text
                rows = 'xtrace_searches_total{rows="cluster"}'
                deadline = time.monotonic() + 60
                while name == "right" and rows not in searched:
                    assert time.monotonic() < deadline
                    http.search(kb, QUERY)
                    searched = httpx2.get(f"{service.url}/metrics").text
                http.close()
                assert (nodes() > 0, rows in searched) == (name == "right", name == "right")
