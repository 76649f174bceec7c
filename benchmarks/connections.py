"""`python -m benchmarks.connections`: many connections at once, each searching 1,000 chunks again and again; at a
server of one process, and at one of two.

The load comes from another process, which discards the answers (`tests/support/load.py`).
"""

import argparse
import asyncio
import base64
import json
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.databases import served
from benchmarks.harness import machine
from benchmarks.service import store
from xtrace_core.frames import MEDIA_TYPE
from xtrace_core.wire import API_KEY_HEADER
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

KEY_LEN: Final = 1024
CHUNKS: Final = 1000
WORKERS: Final = (1, 2)
"""The processes of the servers that are measured."""
_LOAD: Final = Path(__file__).parents[1] / "tests" / "support" / "load.py"


async def prepare(server: Credentials, chunks: int) -> dict[str, Any]:
    """Stores chunks, and returns the body of a search over them."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", 512, KEY_LEN)
    async with XTraceIntegration(server.org_id, server.api_key, server.admin_key, server.api_url) as xtrace:
        await context.save_to_remote(xtrace)
        kb = (await xtrace.create_kb("load")).id
        await store(xtrace, context.id, kb, chunks, KEY_LEN // 2)
    query = context.homomorphic.encrypt_queries([[0] * 512]).sent[0]
    return {"kb_id": kb, "context_id": context.id, "query": [base64.b64encode(one).decode() for one in query]}


def run_load(server: Credentials, body: dict[str, Any], connections: int, requests: int) -> dict[str, Any]:
    """Returns the seconds of each answer, their number of errors and the time that all took."""
    told = {
        "url": f"{server.api_url}/v1/compute_hamming/{server.org_id}",
        "body": body,
        "headers": {API_KEY_HEADER: server.api_key, "accept": MEDIA_TYPE},
        "connections": connections,
        "requests": requests,
    }
    command = [sys.executable, str(_LOAD)]
    done = subprocess.run(command, input=json.dumps(told) + "\n", capture_output=True, text=True, check=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(workers: int, connections: int, requests: int) -> str:
    """The row of a server with this many workers."""
    options = ("--workers", str(workers)) if workers > 1 else ()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "data", None, *options) as server:
        body = asyncio.run(prepare(server, CHUNKS))
        run_load(server, body, connections, connections)
        found = run_load(server, body, connections, requests)
    seconds = sorted(found["seconds"])
    median, p99 = seconds[len(seconds) // 2], seconds[int(0.99 * (len(seconds) - 1))]
    rate = len(seconds) / found["elapsed"]
    times = f"{median * 1000:7.0f} ms {p99 * 1000:7.0f} ms {p99 / median:12.1f}"
    return f"{workers:7} {rate:18.0f} {found['errors']:8} {times}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--requests", type=int, default=4000)
    given = parser.parse_args()
    print(f"{given.connections} connections, {CHUNKS:,} chunks each")
    print("workers searches a second   errors     median        p99 p99 / median")
    for workers in WORKERS:
        print(measured(workers, given.connections, given.requests))
    print(f"target for {WORKERS[0]} process: 150 searches a second, no error, p99 under 10 times the median")
    print(machine())


if __name__ == "__main__":
    main()
