"""The first synchronisation of many generated records, from a shared index on a server of its own.

The segments are what `local_index_generated` makes, and one record is stored on the service: nothing changed since the
shared index was made, so what is measured is fetching, checking, keeping and opening it.
"""

import secrets
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import Counted, Measurement, row
from xtrace_cli.server_process import server_process
from xtrace_sdk import DataLoader, ExecutionContext, PassphraseKeyProvider, XTraceIntegration
from xtrace_sdk.x_vec.local.local_index import LocalIndex
from xtrace_sdk.x_vec.local.segment import Segment
from xtrace_sdk.x_vec.local.state import VERSION, State

ROUNDS = 3
_BITS = 512


async def shared(segments: Sequence[Segment]) -> tuple[list[Measurement], list[str]]:
    """Rows and figures of clients that fetch these segments from a shared index."""
    provider = PassphraseKeyProvider(secrets.token_urlsafe(), insecure_log2_n=1)
    context, counted = ExecutionContext.create(provider, "lattice", _BITS), Counted()
    count = sum(map(len, segments))
    with tempfile.TemporaryDirectory() as folder, server_process(Path(folder) / "server") as (credentials, _):
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url, transport=counted
        ) as xtrace:
            kb_id = (await xtrace.create_kb("generated")).id
            await DataLoader(context, xtrace).load([{"chunk_content": "text"}], [np.zeros(_BITS, np.uint8)], kb_id)
            revision = (await xtrace.local_changes(kb_id, context.id, 0)).revision

            def index_in(name: str) -> LocalIndex:
                return LocalIndex(xtrace, context, kb_id, kind="codes", folder=Path(folder) / name, max_bytes=1 << 40)

            builder = index_in("builder")
            _fill(builder, segments, {context.id: revision})
            sent = await builder.share()
            first, again, processor, received = [], [], 0.0, [0, 0]
            for number in range(ROUNDS):
                client, before = index_in(str(number)), time.process_time()
                counted.begin_again()
                first.append(await _synchronised(client, count))
                processor, received[0] = time.process_time() - before, counted.bytes
                counted.begin_again()
                again.append(await _synchronised(client, count))
                received[1] = counted.bytes
    name = f"synchronisation of {count:,} generated records"
    rows = [row(f"first {name} from a shared index", first, "3 s"), row(f"{name} of which none changed", again)]
    figures = [
        f"shared index of {count:,} generated records: {sent.sent / count:.0f} bytes each, {sent.segments} segments",
        f"its first synchronisation: {received[0] / 1e6:.0f} MB, {processor:.1f} s of processor time",
        f"the next one, without changes: {received[1]:,} bytes",
    ]
    return rows, figures


def _fill(index: LocalIndex, segments: Sequence[Segment], revisions: dict[str, int]) -> None:
    """Makes an index of segments, as if a client had read their chunks up to these revisions."""
    file = index._opened()
    with file.changing(0):
        entries = [entry for one in segments for entry, _ in file.add_segments(one)]
        file.write_state(State(VERSION, 1, segments[0].dim, revisions, {}, time.time(), 0, entries))


async def _synchronised(index: LocalIndex, count: int) -> float:
    """Milliseconds of a synchronisation."""
    started = time.perf_counter()
    found = await index.synchronised()
    taken = 1000 * (time.perf_counter() - started)
    assert found.count == count
    return taken
