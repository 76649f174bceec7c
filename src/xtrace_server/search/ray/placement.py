"""Places segments: one holder per node, and each segment on the node that its name selects.

Every server computes the same place from the name and the living nodes (rendezvous hashing: Thaler and Ravishankar,
IEEE/ACM Transactions on Networking 6(1), 1998). So no directory is needed, and when a node dies, only its segments
move.
"""

import asyncio
import hashlib
from importlib.metadata import version
from typing import Any, Final

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from xtrace_server.search.ray.holder import Holder
from xtrace_server.search.ray.inlining import ENVIRONMENT

NAMESPACE: Final = "xtrace"
_LOOK_EVERY_S: Final = 1.0
_WATCH_PARTS: Final = 4
"""How often an idle holder checks itself, as a fraction of the time after which it ends."""


class HolderActor(Holder):
    """A holder as an actor, which ends when it has not been called for long."""

    def __init__(self, budget: int, threads: int, idle_s: float) -> None:
        super().__init__(budget, threads, idle_s)
        self._watching: asyncio.Task[None] | None = None

    async def state(self) -> tuple[int, int]:
        """Returns the bytes and the number of held segments."""
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())
        return await super().state()

    async def leave(self) -> None:
        """Ends the actor."""
        ray.actor.exit_actor()

    async def _watch(self) -> None:
        while not await self.is_idle():  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(self._idle_s / _WATCH_PARTS)
        ray.get_runtime_context().current_actor.leave.remote()


class Holders:
    """The holders on the living nodes."""

    def __init__(self, node_bytes: int, idle_s: float) -> None:
        self._node_bytes = node_bytes
        self._idle_s = idle_s
        self._holders: dict[str, Any] = {}
        """The holders by node."""
        self.threads = 0
        """The processors of all nodes."""
        self.held_bytes = 0

    def __len__(self) -> int:
        return len(self._holders)

    def of(self, name: bytes) -> Any:
        """Returns the holder of a segment or a body. Raises `ValueError` if no node is alive."""
        return self._holders[max(self._holders, key=lambda node: hashlib.sha256(node.encode() + name).digest())]

    async def watch(self) -> None:
        """Refreshes the state of the cluster repeatedly."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Finds the living nodes, starts missing holders, and asks each holder for its size."""
        nodes = {
            node["NodeID"]: int(node["Resources"]["CPU"])
            for node in await asyncio.to_thread(ray.nodes)
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }
        for node in self._holders.keys() - nodes.keys():
            del self._holders[node]
        for node in nodes.keys() - self._holders.keys():
            self._holders[node] = await asyncio.to_thread(self._started, node, nodes[node])
        self.threads = sum(nodes.values())
        self.held_bytes = sum(await asyncio.gather(*[self._held_by(node) for node in list(self._holders)]))

    async def _held_by(self, node: str) -> int:
        try:
            async with asyncio.timeout(10 * _LOOK_EVERY_S):
                nbytes, _ = await self._holders[node].state.remote()
        except ray.exceptions.ActorDiedError:
            self._holders.pop(node, None)  # it has ended idle, or its node is gone: made again, if there is a node
        except (ray.exceptions.RayError, TimeoutError):
            return 0
        else:
            return int(nbytes)
        return 0

    def _started(self, node: str, threads: int) -> Any:
        # Detached: it serves all servers, and outlives each. If it dies on a living node, Ray restarts it.
        return (
            ray.remote(HolderActor)
            .options(
                name=f"holder-{version('xtracedb')}-{node}",
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                num_cpus=0,
                runtime_env={"env_vars": ENVIRONMENT},
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            )
            .remote(self._node_bytes, threads, self._idle_s)
        )
