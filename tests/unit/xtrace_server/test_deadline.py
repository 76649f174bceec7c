"""Deadlines: they end what takes too long, begin anew with what arrives, and leave a commit alone."""

import asyncio

import pytest

from xtrace_server.deadline import Deadline, deadline, hold_deadline, only_read


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(0.02):
            await asyncio.sleep(5)


async def test_what_arrives_begins_it_anew() -> None:
    async with deadline(0.2) as timeout:
        for _ in range(4):
            await asyncio.sleep(0.1)
            timeout.restart(0.2)


async def test_a_commit_under_way_is_not_called_back() -> None:
    async with deadline(0.02) as timeout:
        hold_deadline()
        await asyncio.sleep(0.1)
        timeout.restart(0.01)  # nothing begins it again
        await asyncio.sleep(0.05)


async def test_without_a_deadline_there_is_nothing_to_hold() -> None:
    hold_deadline()


async def left(until: Deadline) -> None:
    until.leave()
    await asyncio.sleep(0.05)


async def test_a_client_that_leaves_ends_what_only_reads() -> None:
    seen: list[Deadline] = []

    async def read() -> None:
        async with deadline(60) as until:
            seen.append(until)
            only_read()
            await left(until)

    with pytest.raises(TimeoutError):
        await read()
    assert seen[0].was_left


async def test_a_client_that_leaves_does_not_end_what_may_write_or_commits() -> None:
    async with deadline(60) as until:
        await left(until)
        only_read()
        hold_deadline()
        await left(until)
    assert not until.was_left
    only_read()  # without a deadline there is nothing to do
