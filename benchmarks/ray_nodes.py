"""`python ray_nodes.py COUNT`: a Ray cluster on this machine until standard input ends; prints its address.

Its head computes nothing, and each of the nodes has one processor. The workers have this program's interpreter.
"""

import os
import sys
from typing import Any

_STORE_BYTES = 256 * 2**20


def main(count: int) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(count):
            cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES)
        print(cluster.address, flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
