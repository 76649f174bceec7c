"""`python -m benchmarks.end_to_end`: client and server in processes of their own, over loopback, at several sizes.

Loading, insertion, searching (first byte, whole, several at once), rotation, memory of both sides, bytes on the wire;
and for comparison downloading vectors that are encrypted with AES and comparing them locally. Writes JSON; `python -m
benchmarks.page` makes docs/performance.md of it.
"""

import argparse
import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.client import AT_ONCE
from benchmarks.harness import forget_peak, machine, resident
from xtrace_cli.server_process import server_process
from xtrace_core.arithmetic import arithmetic
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

RESULTS = Path(__file__).parent / "end_to_end.json"
ROUNDS = 7


class Service:
    """A server process, and the client processes that work with it."""

    def __init__(self, credentials: Credentials, pid: int, context: Path, passphrase: str) -> None:
        self._credentials = credentials
        self._pid = pid
        self._settings = {
            "org_id": credentials.org_id,
            "api_key": credentials.api_key,
            "api_url": credentials.api_url,
            "context": str(context),
            "passphrase": passphrase,
        }

    def new_kb(self, name: str) -> str:
        async def create() -> str:
            one = self._credentials
            async with XTraceIntegration(
                org_id=one.org_id, api_key=one.api_key, api_url=one.api_url, admin_key=one.admin_key
            ) as xtrace:
                return (await xtrace.create_kb(name)).id

        return asyncio.run(create())

    def do(self, task: str, kb_id: str, **settings: Any) -> dict[str, Any]:
        """The figures of one task, with the most memory that the server had (`server_memory`)."""
        print(f"{task} {settings.get('count', '')}", file=sys.stderr)
        forget_peak(self._pid)
        message = json.dumps({**self._settings, "task": task, "kb_id": kb_id, "rounds": ROUNDS, **settings})
        command = [sys.executable, "-m", "benchmarks.client"]
        done = subprocess.run(command, input=message, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures | {"server_memory": resident(self._pid)[1]}


@contextmanager
def service(folder: Path, context: Path, passphrase: str) -> Iterator[Service]:
    with server_process(folder) as (credentials, pid):
        yield Service(credentials, pid, context, passphrase)


def measure(sizes: list[int], dimensions: int, key_len: int, rotated: int) -> dict[str, Any]:
    """Everything. Seconds and bytes; lists are rounds."""
    with tempfile.TemporaryDirectory() as name:
        folder, passphrase = Path(name), secrets.token_urlsafe()
        contexts = {scheme: folder / f"{scheme}.json" for scheme in ("paillier_lookup", "paillier")}
        for scheme, path in contexts.items():
            provider = PassphraseKeyProvider(passphrase, insecure_log2_n=1)
            ExecutionContext.create(provider, scheme, dimensions, key_len).save_to_disk(path)
        data, context = folder / "data", contexts["paillier_lookup"]
        with service(data, context, passphrase) as first:
            rows = [_loaded(first, size) for size in sizes]
            inserted = {"count": sizes[-2], **first.do("insert", first.new_kb("inserted"), count=sizes[-2])}
        # Another server, which has no rows in memory yet.
        with service(data, context, passphrase) as second:
            second.do("answer", rows[0]["_whole"]["kb_id"])  # what a process does once is done
            for row in rows:
                _search(second, row)
        rotations = []
        for scheme, path in contexts.items():
            with service(folder / f"data of {scheme}", path, passphrase) as other:
                kb_id = other.new_kb("rotated")
                other.do("load", kb_id, count=rotated)
                rotations.append({"scheme": scheme, **other.do("rotate_all", kb_id)})
    return {
        "machine": machine(),
        "processors": os.cpu_count(),
        "backend": arithmetic.name,
        "dimensions": dimensions,
        "key_len": key_len,
        "at_once": AT_ONCE,
        "sizes": [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows],
        "insertion": inserted,
        "rotations": rotations,
    }


def _loaded(service_: Service, size: int) -> dict[str, Any]:
    """A knowledge base of so many chunks, and another with the same number of vectors in one encrypted blob."""
    kb_id, whole_id = service_.new_kb(f"{size}"), service_.new_kb(f"{size}, whole")
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    loading = service_.do("load", kb_id, count=size)
    whole = service_.do("store_whole", whole_id, count=size, content_key=key)
    where = {"kb_id": whole_id, "content_key": key, "chunk_id": whole["chunk_id"]}
    return {"count": size, "load": loading, "_kb_id": kb_id, "_whole": where}


def _search(service_: Service, row: dict[str, Any]) -> None:
    kb_id = row["_kb_id"]
    row["answer"] = service_.do("answer", kb_id)
    row["search"] = service_.do("search", kb_id)
    row["search_at_once"] = service_.do("search_at_once", kb_id)
    row["floor"] = service_.do("download_and_compare", **row["_whole"])


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.end_to_end", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--key-len", type=int, default=1024)
    parser.add_argument("--rotated", type=int, default=5_000, help="chunks that are rotated")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    results = measure(arguments.sizes, arguments.dimensions, arguments.key_len, arguments.rotated)
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
