"""A real Ray cluster of several nodes on this machine, which tests may kill."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from support.missing_tools import needs, skip_without

TESTS: Final = Path(__file__).parents[1]
NEEDED: Final = needs("Ray", find_spec("ray"))
_STORE_BYTES: Final = 128 * 2**20
_PATIENCE_S: Final = 60.0


class RayCluster:
    """A head that computes nothing, as beside a server, and nodes with one processor each."""

    def __init__(self, nodes: int) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        # What the nodes start finds the schemes of the tests.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path[1:]])
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False}
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self._cluster.address)
        self.nodes = [self.add_node() for _ in range(nodes)]

    def add_node(self, cpus: int = 1) -> Any:
        """Starts a node, and returns it."""
        return self._cluster.add_node(num_cpus=cpus, object_store_memory=_STORE_BYTES)

    def kill_node(self) -> None:
        """Kills the processes of the node that was started first, and of what runs on it."""
        self._cluster.remove_node(self.nodes.pop(0), allow_graceful=False)

    def holders(self) -> list[int]:
        """The processes of this cluster that hold segments; another test may have a cluster of its own."""
        raylets = {
            one.process.pid for node in self._cluster.list_all_nodes() for one in node.all_processes.get("raylet", ())
        }
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    command = (folder / "cmdline").read_bytes()
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if parent in raylets and command.startswith(b"ray::HolderActor"):
                    found.append(int(folder.name))
        return found

    def environments(self) -> list[bytes]:
        """The environment of each holder's process."""
        return [Path(f"/proc/{pid}/environ").read_bytes() for pid in self.holders()]

    def stop(self) -> None:
        """Stops everything; also the head, as if its machine was gone."""
        self._cluster.shutdown()


@contextmanager
def ray_cluster(nodes: int = 2) -> Iterator[RayCluster]:
    """A cluster of this process. Skips the test without Ray."""
    skip_without("Ray", find_spec("ray"))
    kept = os.environ.get("PYTHONPATH")
    cluster = RayCluster(nodes)
    try:
        yield cluster
    finally:
        cluster.stop()
        os.environ.pop("PYTHONPATH")
        if kept is not None:
            os.environ["PYTHONPATH"] = kept


def until(true: Callable[[], Any], what: str) -> None:
    """Waits until something is so."""
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"not within {_PATIENCE_S:g} seconds: {what}"
        time.sleep(0.02)
