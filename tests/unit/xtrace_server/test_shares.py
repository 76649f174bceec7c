"""Memory for requests: nobody gets more than is left over for the others, and who finds none waits for its turn."""

import asyncio

import pytest

from xtrace_server.errors import Overloaded
from xtrace_server.limits.in_flight import InFlight
from xtrace_server.limits.shares import Shares

LONG_S = 3600.0


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_each_newcomer_finds_half_of_what_is_left() -> None:
    shares = Shares(64, LONG_S)
    for name, most in (("a", 32), ("b", 16), ("c", 8), ("d", 4)):
        assert not shares.try_take(name, most + 1)
        assert shares.try_take(name, most)
        assert not shares.try_take(name, 1)
    shares.give_back("a", 32)
    assert shares.try_take("b", 2)
    assert shares.taken_bytes == 16 + 8 + 4 + 2


async def test_who_waits_is_served_in_order_and_other_organisations_do_not_wait_for_it() -> None:
    shares = Shares(64, LONG_S)
    served: list[str] = []

    async def take(name: str, organisation_id: str, size: int) -> None:
        await shares.take(organisation_id, size)
        served.append(name)

    assert shares.try_take("a", 30)
    tasks = [asyncio.create_task(take(*what)) for what in (("large", "a", 20), ("small", "a", 1), ("other", "b", 8))]
    await settle()
    assert served == ["other"], "the small one must not overtake the large one for ever"
    shares.give_back("a", 30)
    await asyncio.gather(*tasks)
    assert served == ["other", "large", "small"]
    for organisation_id, size in (("a", 21), ("b", 8)):
        shares.give_back(organisation_id, size)
    assert shares.taken_bytes == 0


async def test_who_waits_too_long_is_refused_and_leaves_nothing_behind() -> None:
    shares = Shares(64, 0.01)
    assert shares.try_take("a", 32)
    with pytest.raises(Overloaded, match="memory_bytes"):
        await shares.take("a", 20)
    shares.give_back("a", 32)
    assert shares.try_take("a", 32)


async def test_who_gives_up_leaves_nothing_behind() -> None:
    shares = Shares(64, LONG_S)
    assert shares.try_take("a", 32)
    first, second = (asyncio.create_task(shares.take("a", size)) for size in (20, 4))
    await settle()
    first.cancel()  # while it waits
    shares.give_back("a", 30)
    await second
    third = asyncio.create_task(shares.take("a", 30))
    await settle()
    shares.give_back("a", 6)
    third.cancel()  # in the moment in which it was given
    with pytest.raises(asyncio.CancelledError):
        await third
    assert shares.taken_bytes == 0


async def test_a_request_gives_everything_back_when_it_leaves() -> None:
    in_flight = InFlight(2, 64)
    one, two = in_flight.enter("a"), in_flight.enter("a")
    with pytest.raises(Overloaded, match="max_requests_each"):
        in_flight.enter("a")
    await one.take("bodies", 10)
    assert two.try_take("answers", 5)
    assert not two.try_take("answers", 40)
    assert (in_flight.taken_bytes("bodies"), in_flight.taken_bytes("answers")) == (10, 5)
    one.leave()
    two.leave()
    assert (in_flight.taken_bytes("bodies"), in_flight.taken_bytes("answers")) == (0, 0)
    assert in_flight.enter("a").try_take("bodies", 32)
