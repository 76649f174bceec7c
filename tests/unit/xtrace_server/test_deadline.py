"""Deadlines: they end what takes too long, begin anew with what arrives, and leave a commit alone."""

import asyncio

import pytest

from xtrace_server.deadline import deadline, hold_deadline, restart_deadline


async def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with deadline(0.02):
            await asyncio.sleep(5)


async def test_what_arrives_begins_it_anew() -> None:
    async with deadline(0.2) as timeout:
        for _ in range(4):
            await asyncio.sleep(0.1)
            restart_deadline(timeout, 0.2)


async def test_a_commit_under_way_is_not_called_back() -> None:
    async with deadline(0.02) as timeout:
        hold_deadline()
        await asyncio.sleep(0.1)
        restart_deadline(timeout, 0.01)  # nothing begins it again
        await asyncio.sleep(0.05)


async def test_without_a_deadline_there_is_nothing_to_hold() -> None:
    hold_deadline()
