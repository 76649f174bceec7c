"""Places shared among organisations: whose turn it is, how many one may hold, and what happens to who gives up."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from xtrace_server.errors import Unavailable
from xtrace_server.storage.turns import Turns

LONG_S = 60.0


class Work:
    """Tasks that hold a place until they are told to end, and the order in which they began."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def wants(self, organisation_id: str, name: str, *, urgent: bool = False) -> None:
        """Adds work with a name that is its own."""
        end = self._ends[name] = asyncio.Event()

        async def hold() -> None:
            async with self.turns.turn(organisation_id, urgent=urgent):
                self.began.append(name)
                await end.wait()

        self.tasks[name] = asyncio.create_task(hold())
        await settle()

    async def ends(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await settle()

    async def is_given_up(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        await settle()


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def working(places: int, share: int) -> AsyncIterator[Work]:
    work = Work(Turns(places, share, LONG_S))
    try:
        yield work
    finally:
        for task in work.tasks.values():
            task.cancel()
        await asyncio.gather(*work.tasks.values(), return_exceptions=True)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_organisations_are_served_in_turn_however_much_one_asks() -> None:
    async def test() -> None:
        async with working(1, 1) as work:
            for name in ("a1", "a2", "a3", "a4"):
                await work.wants("a", name)
            await work.wants("b", "b1")
            await work.wants("c", "c1")
            for name in ("a1", "a2", "b1", "c1", "a3"):
                assert work.began[-1] == name
                await work.ends(name)
            assert work.began == ["a1", "a2", "b1", "c1", "a3", "a4"]

    run(test)


def test_no_organisation_has_more_than_its_share_and_another_finds_a_place() -> None:
    async def test() -> None:
        async with working(4, 2) as work:
            for i in range(5):
                await work.wants("a", f"a{i}")
            assert work.began == ["a0", "a1"]
            await work.wants("b", "b0")
            assert work.began == ["a0", "a1", "b0"]
            await work.ends("a0")
            assert work.began == ["a0", "a1", "b0", "a2"]

    run(test)


def test_urgent_work_goes_first_and_does_not_keep_the_other_out() -> None:
    async def test() -> None:
        async with working(1, 1) as work:
            await work.wants("a", "first")
            for i in range(3):
                await work.wants("b", f"slow{i}")
            for i in range(3):
                await work.wants("c", f"urgent{i}", urgent=True)
            for _ in range(7):
                await work.ends(work.began[-1])
            assert work.began == ["first", "urgent0", "slow0", "urgent1", "slow1", "urgent2", "slow2"]

    run(test)


def test_who_gives_up_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with working(1, 1) as work:
            for name in ("held", "waits", "next"):
                await work.wants("a", name)
            await work.is_given_up("waits")
            await work.is_given_up("held")
            assert work.began == ["held", "next"]
            await work.ends("next")
            await work.wants("b", "another")
            assert work.began[-1] == "another"

    run(test)


def test_a_place_that_is_given_to_who_just_gave_up_goes_on_to_the_next() -> None:
    async def test() -> None:
        async with working(1, 1) as work:
            await work.wants("a", "held")
            await work.wants("b", "waits")
            await work.wants("c", "next")
            # Without a turn of the event loop in between: the place is given, then its task is cancelled.
            work.tasks["held"].cancel()
            await asyncio.sleep(0)
            work.tasks["waits"].cancel()
            await settle()
            assert work.began[-1] == "next"

    run(test)


def test_waiting_ends_with_an_error() -> None:
    async def test() -> None:
        turns = Turns(1, 1, 0.01)
        async with turns.turn("a"):
            with pytest.raises(Unavailable):
                async with turns.turn("b"):
                    pytest.fail("there was no place")
        async with turns.turn("b"):
            pass

    run(test)
