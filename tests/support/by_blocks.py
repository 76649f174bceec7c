"""Small knowledge bases that are searched by blocks, and a network that shows and changes what a client gets."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_core import block_frames
from xtrace_core.lattice.layout import pack_values, unpack_values
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.retrievers.planning import Counts, Planner

Change = Callable[[bytes], bytes]
VALUE = 12


def always_by_blocks(patch: pytest.MonkeyPatch) -> None:
    """From now on, clients search by blocks wherever there are any: in tests there are too few chunks to pay."""

    def costs(self: Planner, counts: Counts, queries: int, cached_blocks: int) -> tuple[int, int]:
        return 2, 1

    patch.setattr(Planner, "_costs", costs)


async def sealed(context: ExecutionContext, xtrace: XTraceIntegration, kb_id: str, chunk_ids: Sequence[int]) -> int:
    """Seals these chunks into one block, and returns its id."""
    scheme = context.homomorphic.blocks
    assert scheme is not None
    stored = await xtrace.get_chunk_by_id(chunk_ids, kb_id, projection=["index", "nonce"])
    nonces = [chunk["nonce"] for chunk in stored]
    bits, valid = context.homomorphic.decrypt_vec_batch([chunk["index"] for chunk in stored], nonces)
    assert valid.all()
    block = scheme.seal(bits, kb_id)
    done = await xtrace.seal_block(kb_id, context.id, chunk_ids, nonces, block.header, block.hints, block.body)
    assert done.live == len(chunk_ids)
    return done.block_id


class Network(httpx2.AsyncBaseTransport):
    """The network, which keeps the requests about one path, and changes the answers."""

    def __init__(self) -> None:
        self._network = httpx2.AsyncHTTPTransport()
        self.sent: list[tuple[str, str, bytes]] = []
        """Method, path with query, and body of each request."""
        self.change: dict[str, Change] = {}
        """What becomes of the bodies of answers, by the end of the path."""
        self.ahead_s: float | None = None
        """If set, the service's clock is so far ahead in its answers: all chunks were written long before."""
        self.fails: dict[str, int] = {}
        """How many answers are lost, by the end of the path."""

    def bodies(self, path: str) -> list[bytes]:
        """What was sent to a path, or asked of it."""
        return [body or query.encode() for _, query, body in self.sent if query.split("?")[0].endswith(path)]

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.rpartition("/")[0]
        query = request.url.query.decode()
        self.sent.append((request.method, f"{path}?{query}" if query else path, await request.aread()))
        answer = await self._network.handle_async_request(request)
        name = next(
            (one for one in (*self.fails, *self.change) if path.endswith(one) and request.method != "DELETE"), ""
        )
        if self.fails.get(name):
            self.fails[name] -= 1
            await answer.aread()
            raise httpx2.ReadError("the connection broke", request=request)
        if self.ahead_s is not None:
            answer.headers["date"] = format_datetime(datetime.now(UTC) + timedelta(seconds=self.ahead_s))
        if name in self.change and answer.status_code == 200:
            content = self.change[name](await answer.aread())
            headers = {key: value for key, value in answer.headers.items() if key != "content-length"}
            return httpx2.Response(200, headers=headers, content=content)
        return answer

    async def aclose(self) -> None:
        await self._network.aclose()


def with_values(change: Callable[[int, NDArray[np.uint16]], NDArray[Any]]) -> Change:
    """Changes the values `(queries, slots)` of each block in an answer with one slab, given the block's number."""

    def changed(data: bytes) -> bytes:
        queries = data[6]
        read = block_frames.read_answer(data, 1, queries)
        parts = [block_frames.head(1, queries, len(read.blocks), read.candidates, read.revision)]
        for number, one in enumerate(read.blocks):
            size = block_frames.value_bytes(len(one.slots))
            packed = [bytes(one.values[size * i : size * (i + 1)]) for i in range(queries)]
            values = np.array([unpack_values(part, len(one.slots)) for part in packed])
            changed_values = (change(number, values) % (1 << VALUE)).astype(np.uint16)
            parts.append(block_frames.block(one.block_id, one.slots, pack_values(changed_values)))
        made = b"".join(parts)
        return made + data[len(made) :]

    return changed
