"""Clients of one server that seal, delete, update and search at the same time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support import sealing_races
from support.sealing import SealingClient, sealing_client
from support.service import Http, LiveService

Race = Callable[[SealingClient, Sequence[Http], Path, int], None]


@pytest.fixture
def both(http: Http) -> Iterator[list[Http]]:
    other = Http(http.credentials)
    yield [http, other]
    other.close()


@pytest.mark.parametrize(
    "race",
    [
        sealing_races.two_seal_the_same_chunks,
        sealing_races.a_deletion_meets_a_new_block,
        sealing_races.searches_meet_new_blocks,
    ],
)
def test_each_chunk_is_in_exactly_one_place(race: Race, both: list[Http], live_service: LiveService) -> None:
    race(sealing_client(both[0]), both, live_service.folder, 3)
