"""Races about blocks between clients, of one server or of two: whoever wins, each chunk is in exactly one place."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from support.sealing import SealingClient, check_slots
from support.service import Http, ok, problem


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What the calls return, made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [one.result() for one in [pool.submit(call) for call in calls]]


def two_seal_the_same_chunks(sealing: SealingClient, https: Sequence[Http], folder: Path, rounds: int) -> None:
    """Of two blocks of the same chunks one is stored; the same block sent twice is stored once."""
    for _ in range(rounds):
        ids = sealing.insert(4)
        blocks = [sealing.block(ids), sealing.block(ids)]
        answers = at_once(*map(partial, [sealing.send] * 2, blocks, https))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        problem(next(answer for answer in answers if answer.status_code == 409), 409, "block_outdated")
        again = blocks[[answer.status_code for answer in answers].index(200)]
        assert len({ok(one)["block_id"] for one in at_once(*[partial(sealing.send, again, h) for h in https])}) == 1
        (stored,) = {one for one, (_, live, _) in sealing.blocks().items() if live}
        new = [sealing.block(ids, replaces=[stored]) for _ in https]
        answers = at_once(*map(partial, [sealing.send] * 2, new, https))
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        check_slots(folder)
        assert sealing.search(https[-1]).in_blocks == sealing.expected()
        sealing.unseal(*sealing.blocks())
        ok(https[0].data("DELETE", "/chunk/{org}", params={"kb_id": sealing.kb, "chunk_ids": ids}))
        sealing.forget(*ids)


def a_deletion_meets_a_new_block(sealing: SealingClient, https: Sequence[Http], folder: Path, rounds: int) -> None:
    """A chunk that is deleted or replaced while it is sealed is in the block's dead slot, however they are ordered."""
    for number in range(rounds):
        ids = sealing.insert(8)
        block = sealing.block(ids)
        deletion = {"kb_id": sealing.kb, "chunk_ids": [ids[0]]}
        update = {**sealing.scope, "chunk_updates": [sealing.chunk(ids[1])]}
        sealed, *others = at_once(
            partial(sealing.send, block, https[number % 2]),
            partial(https[1].data, "DELETE", "/chunk/{org}", params=deletion),
            partial(https[0].data, "PUT", "/chunk/{org}", json=update),
        )
        assert [one.status_code for one in others] == [200, 200]
        sealing.forget(ids[0])
        check_slots(folder)
        answer = sealing.search(https[-1])
        assert answer.all == sealing.expected()
        assert set(answer.in_blocks) >= {*ids[2:]}
        assert ok(sealed)["live"] >= 6


def searches_meet_new_blocks(sealing: SealingClient, https: Sequence[Http], folder: Path, rounds: int) -> None:
    """Every search while chunks are sealed, unsealed and sealed into other blocks finds each chunk once."""
    ids = sealing.insert(12)
    expected = sealing.expected()

    def seals() -> None:
        for number in range(rounds):
            half = ids[:8] if number % 2 else ids[4:]
            present = list(sealing.blocks())
            ok(sealing.send(sealing.block(half, replaces=present), https[0]))

    def searches() -> None:
        for _ in range(2 * rounds):
            assert sealing.search(https[1]).all == expected

    at_once(seals, searches)
    check_slots(folder)
