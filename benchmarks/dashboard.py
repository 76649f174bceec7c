"""`python -m benchmarks.dashboard`: how long each page of the dashboard takes, with many chunks and keys.

The target is 100 ms a page. On busy cores look at the processor time, which has the reader's as well.
"""

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from pathlib import Path

import httpx2

from benchmarks.harness import machine
from benchmarks.service import store
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials
from xtrace_server.serving import start
from xtrace_server.settings import Settings

KEY_LEN = 1024
ROUNDS = 9
TARGET_MS = 100
_AT_ONCE = 20


async def fill(credentials: Credentials, chunks: int, keys: int, knowledge_bases: int) -> tuple[str, str]:
    """Stores what the pages show; returns the id of the large knowledge base and the hash of a key."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", 512, KEY_LEN)
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        await context.save_to_remote(xtrace)
        large = (await xtrace.create_kb("large")).id
        await store(xtrace, context.id, large, chunks, KEY_LEN // 2)
        for start in range(0, knowledge_bases - 1, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, knowledge_bases - 1))
            await asyncio.gather(*[xtrace.create_kb(f"knowledge base {i}") for i in some])
        created = []
        for start in range(0, keys, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, keys))
            created += await asyncio.gather(*[xtrace.create_api_key(f"key {i}") for i in some])
    return large, created[0].api_key.hash


def paths(kb: str, key: str) -> list[str]:
    """Every page of an organisation."""
    return [
        *(
            "/",
            "/overview/live",
            "/knowledge-bases",
            "/keys",
            "/keys?find=key+77&sort=name&order=asc",
            "/contexts",
            "/visible",
            "/get-started",
            "/audit",
        ),
        "/settings",
        f"/knowledge-bases/{kb}",
        f"/knowledge-bases/{kb}?after=50000~&from=50001",
        f"/knowledge-bases/{kb}?sort=tag1&order=asc",
        f"/knowledge-bases/{kb}?sort=tag1&order=asc&after=50000~common+30&from=49000",
        f"/knowledge-bases/{kb}?sort=updated_at",
        "/knowledge-bases?sort=name&order=asc",
        "/knowledge-bases?find=base+77",
        f'/knowledge-bases/{kb}?filter={{"tag1":"common 7"}}',
        f"/knowledge-bases/{kb}?chunk=77",
        f"/knowledge-bases/{kb}/delete",
        f"/keys/{key}",
    ]


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--knowledge-bases", type=int, default=10_000)
    chosen = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder, start(Settings(data=Path(folder), port=0)):
        credentials = read_credentials(Path(folder) / CREDENTIALS_FILE)
        kb, key = asyncio.run(fill(credentials, chosen.chunks, chosen.keys, chosen.knowledge_bases))
        with httpx2.Client(base_url=credentials.api_url, timeout=60, headers={"accept": "text/html"}) as client:
            sign_in(client, credentials)
            for path in paths(kb, key):
                taken = sorted(timed(client, path) for _ in range(ROUNDS + 1))[:-1]
                shown, times = path.replace(kb, "KB").replace(key, "HASH"), [ms for ms, _ in taken]
                processor = statistics.median(ms for _, ms in taken)
                between = f"{times[0]:.1f} to {times[-1]:.1f}"
                print(f"{shown:78} {statistics.median(times):6.1f} ms, {between:14} processor {processor:5.1f} ms")


def sign_in(client: httpx2.Client, credentials: Credentials) -> None:
    """Opens a session."""
    form = client.get("/sign-in").text.partition('action="/sign-in"')[2]
    token = form.partition('name="token" value="')[2].partition('"')[0]
    fields = {"token": token, "organisation": credentials.org_id, "key": credentials.admin_key}
    assert client.post("/sign-in", data=fields).status_code == 303


def timed(client: httpx2.Client, path: str) -> tuple[float, float]:
    """Returns how many milliseconds a page took, and how many of processor time."""
    began, before = time.perf_counter(), time.process_time()
    answer = client.get(path)
    took, worked = time.perf_counter() - began, time.process_time() - before
    assert answer.status_code == 200, (path, answer.status_code)
    return took * 1000, worked * 1000


if __name__ == "__main__":
    main()
