"""A server that is to stop says so first, and goes on serving while a balancer notices."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from support.server_process import ServerProcess
from support.service import Http, chunk, problem


def test_a_draining_server_is_not_ready_and_serves_whatever_comes(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port_factory(), drain_s=600)
    server.start()
    http = Http(server.credentials)
    http.save_context()
    kb_id = http.new_kb()
    os.kill(server.pid, signal.SIGTERM)
    while (answer := http.client.get("/readyz")).status_code == 200:
        time.sleep(0.01)
    assert "drain_s" in problem(answer, 503, "unavailable")
    assert http.client.get("/livez").status_code == 200
    assert http.insert(kb_id, [chunk()]) == [1]
    http.close()
    new = Http(server.credentials)  # with connections of its own
    assert new.insert(kb_id, [chunk()]) == [2]
    new.close()
    os.kill(server.pid, signal.SIGINT)
    assert server.join() == 0


def test_a_server_stops_by_itself_after_draining(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> None:
    server = ServerProcess(tmp_path, port=unused_tcp_port_factory(), drain_s=0.2)
    server.start()
    assert server.terminate() == 0
