"""The protocol of blocks: clients with stale views insert, change, seal, replace, repeat and remove, and after every
step each chunk is found exactly once, where the service says, with its distance.
"""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from support import databases
from support.recount import kept, recounted
from support.sealing import SealingClient, check_slots, sealing_client
from support.service import Http, LiveService, ok, problem

pytestmark = pytest.mark.usefixtures("database")
IS_FULL = "XTRACE_TEST_FULL" in os.environ
SEEDS = 3 if IS_FULL else 1
VIEWS = 3
"""Clients whose knowledge ages."""


class View:
    """What one client knew at some time, and the last block that it made."""

    def __init__(self, sealing: SealingClient) -> None:
        self.sealing = sealing
        self.refresh()
        self.last = b""

    def refresh(self) -> None:
        self.ids = sorted(self.sealing.vectors)
        self.vectors, self.nonces = dict(self.sealing.vectors), dict(self.sealing.nonces)
        self.blocks = self.sealing.blocks()

    def block(self, ids: list[int], replaces: list[int]) -> bytes:
        """A block of the chunks as the client knows them."""
        known = SealingClient(self.sealing.http, self.sealing.kb, client=self.sealing.client)
        known.vectors, known.nonces = self.vectors, self.nonces
        self.last = known.block(ids, replaces)
        return self.last


class Run:
    """One knowledge base, and what happens to it."""

    def __init__(self, http: Http, folder: Path, dice: random.Random) -> None:
        self.sealing, self.folder, self.dice = sealing_client(http), folder, dice
        self.sealing.insert(6)
        self.views = [View(self.sealing) for _ in range(VIEWS)]
        self.sealed = self.refused = 0

    def step(self) -> None:
        acts = (self.insert, self.insert, self.update, self.delete, self.refresh, self.refresh, self.remove)
        self.dice.choice((*acts, *[self.seal] * 5, self.repeat))()
        assert self.sealing.search().all == self.sealing.expected()
        check_slots(self.folder)

    def insert(self) -> None:
        self.sealing.insert(self.dice.randrange(1, 4))

    def update(self) -> None:
        if self.sealing.vectors:
            chunk = self.sealing.chunk(self.dice.choice(sorted(self.sealing.vectors)))
            ok(self.sealing.http.data("PUT", "/chunk/{org}", json={**self.sealing.scope, "chunk_updates": [chunk]}))

    def delete(self) -> None:
        some = self.dice.sample(sorted(self.sealing.vectors), min(2, len(self.sealing.vectors)))
        ok(self.sealing.http.data("DELETE", "/chunk/{org}", params={"kb_id": self.sealing.kb, "chunk_ids": some}))
        self.sealing.forget(*some)

    def refresh(self) -> None:
        self.dice.choice(self.views).refresh()

    def remove(self) -> None:
        if blocks := self.dice.choice(self.views).blocks:
            self.sealing.unseal(self.dice.choice(sorted(blocks)))

    def seal(self) -> None:
        view = self.dice.choice(self.views)
        if not view.ids:
            return
        ids = sorted(self.dice.sample(view.ids, self.dice.randint(1, min(6, len(view.ids)))))
        replaces = self.dice.sample(sorted(view.blocks), self.dice.randint(0, min(2, len(view.blocks))))
        self.send(view.block(ids, replaces))

    def repeat(self) -> None:
        """The answer to a new block was lost, so the client sends it again, whatever has happened since."""
        view = self.dice.choice(self.views)
        if view.last:
            self.send(view.last)

    def send(self, block: bytes) -> None:
        answer: Any = self.sealing.send(block)
        if answer.status_code == 200:
            self.sealed += 1
        else:
            problem(answer, 409, "block_outdated")
            self.refused += 1


def steps_now() -> int:
    """How many steps; a third over PostgreSQL, where each costs several times as much."""
    if not IS_FULL:
        return 60
    return 400 if databases.current() == databases.SQLITE else 134


@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_chunk_is_found_once_after_every_step(seed: int, http: Http, live_service: LiveService) -> None:
    run = Run(http, live_service.folder, random.Random(seed))
    steps = steps_now()
    for _ in range(steps):
        run.step()
    assert kept(live_service.folder, http.org) == recounted(live_service.folder, http.org)
    assert run.sealed >= steps // 20
    assert run.refused >= steps // 20
