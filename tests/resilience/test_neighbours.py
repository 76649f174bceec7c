"""What one organisation does must not stop another: during each attack the other's calls and the probes stay fast.

Each attack runs as long as the neighbour needs for its calls, and is compared with an idle time of the same moment.
"""

import re
from collections.abc import Callable, Iterator

import pytest

from support.bulk import new_organisation
from support.neighbours import ATTACKS, MAX_CONNECTIONS, World, attacking, p99
from support.server_process import ServerProcess

pytestmark = pytest.mark.full

SLOWEST_S = 3.0
"""Without turns it is twenty seconds, and refusals. Two idle cores stay below one; this runs on busy ones too."""
CALLS = 20
"""Of each kind: during an attack each may take a second."""
MEMORY_BYTES = 700 * 2**20


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]) -> Iterator[World]:
    server = ServerProcess(
        tmp_path_factory.mktemp("neighbours"),
        port=unused_tcp_port_factory(),
        request_timeout_s=20.0,
        max_connections=MAX_CONNECTIONS,
        memory_bytes=MEMORY_BYTES,
        cache_bytes=128 * 2**20,
        metrics="loopback",
    )
    server.start()
    made = World(server.credentials, new_organisation(server))
    yield made
    made.close()
    server.kill()


@pytest.mark.parametrize(("attack", "clients"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_a_neighbour_is_served_during_an_attack(world: World, attack: Callable[..., None], clients: int) -> None:
    idle = world.latencies(CALLS)
    with attacking(world, lambda http: attack(world, http), clients) as attacks:
        attacked = world.latencies(CALLS)
        most = taken(world)
    assert not [one.failure for one in attacks if one.failure], "the attack did not do what it is meant to"
    assert sum(one.answered for one in attacks) > 0
    assert most <= MEMORY_BYTES
    for name, times in attacked.items():
        assert p99(times) - p99(idle[name]) < SLOWEST_S, (name, sorted(times)[-5:], sorted(idle[name])[-3:])
    print({name: (round(p99(times), 3), round(p99(idle[name]), 3)) for name, times in attacked.items()})


def taken(world: World) -> float:
    """How much of the memory is taken that the server may take."""
    return sum(map(float, re.findall(r"xtrace_memory_bytes\{.*\} (\S+)", world.probe.get("/metrics").text)))
