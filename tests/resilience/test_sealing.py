"""The server is killed at random moments while blocks are made, replaced and removed: afterwards each chunk is in
exactly one place, and what was acknowledged is there.
"""

import os
import random
import threading
import time
from pathlib import Path

import httpx2
import pytest

from support.sealing import SealingClient, check_slots, sealing_client
from support.server_process import ServerProcess
from support.service import Http, ok

KILLS = 12 if "XTRACE_TEST_FULL" in os.environ else 4


class Sealer(threading.Thread):
    """Puts halves of the chunks into blocks, over and over, until the server is killed."""

    def __init__(self, sealing: SealingClient, ids: list[int]) -> None:
        super().__init__(daemon=True)
        self._sealing = sealing
        self._ids = ids
        self.acknowledged = 0
        self.replaced: set[int] = set()
        """The blocks that acknowledged ones have replaced."""

    def run(self) -> None:
        try:
            while True:
                present = sorted(self._sealing.blocks())
                half = self._ids[:30] if self.acknowledged % 2 else self._ids[10:]
                ok(self._sealing.send(self._sealing.block(half, replaces=present)))
                self.replaced.update(present)
                self.acknowledged += 1
        except httpx2.TransportError:
            return


@pytest.mark.usefixtures("database")
@pytest.mark.timeout(120 + 20 * KILLS)
def test_killed_while_blocks_are_made_each_chunk_is_in_one_place(tmp_path: Path, unused_tcp_port: int) -> None:
    server = ServerProcess(tmp_path / "data", port=unused_tcp_port)
    server.start()
    http = Http(server.credentials)
    sealing = sealing_client(http)
    ids = sealing.insert(40)
    dice, acknowledged = random.Random(KILLS), 0
    for _ in range(KILLS):
        sealer = Sealer(sealing, ids)
        sealer.start()
        while sealer.is_alive() and not sealer.acknowledged:
            time.sleep(0.005)
        time.sleep(dice.uniform(0, 0.15))
        server.kill()
        sealer.join(30)
        server.start()
        acknowledged += sealer.acknowledged
        assert sealing.search().all == sealing.expected()
        check_slots(tmp_path / "data")
        # Each block replaces the one before it, so the last that was acknowledged is there, or the one in doubt.
        (present,) = sealing.blocks()
        assert present not in sealer.replaced
    assert acknowledged >= KILLS
    assert server.terminate() == 0
    http.close()
