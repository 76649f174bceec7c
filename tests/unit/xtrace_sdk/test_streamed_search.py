"""A streamed search against services that lie, stop, or do not know frames."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

import httpx2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_core import frames
from xtrace_sdk.errors import InvalidAnswer, InvalidRows, NetworkError, ServerUnreachable, Unauthenticated
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.service import packed_rows
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.retrievers import scan
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

ROWS = 30
VECTORS = np.random.default_rng(3).integers(0, 2, (ROWS, 16), dtype=np.uint8)


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    return ExecutionContext.create(provider, "paillier_lookup", 16, 256, insecure_allow_weak_parameters=True)


class Pieces(httpx2.AsyncByteStream):
    """A body that comes in pieces, and may break."""

    def __init__(self, pieces: Iterable[bytes], breaks: bool = False) -> None:
        self._pieces = pieces
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0)
            yield piece
        if self._breaks:
            raise httpx2.ReadError("broken")


class LyingService:
    """Computes honest products, and lets a test change the blocks before they are sent."""

    def __init__(self, context: ExecutionContext, block_rows: int = 7) -> None:
        self.batch = context.homomorphic.encrypt_vec_batch(VECTORS)
        self.n = int(msgspec.json.decode(context.public_data()["pk"])["n"])
        self.block_rows = block_rows
        self.calls = 0

    def products(self, request: httpx2.Request) -> NDArray[np.uint8]:
        query = msgspec.json.decode(request.content)["query"]
        (factor,) = [int.from_bytes(msgspec.convert(one, bytes), "little") for one in query]
        width = self.batch.rows.shape[2]
        data = [(one[0] * factor % self.n**2).to_bytes(width, "little") for one in self.batch]
        return np.frombuffer(b"".join(data), dtype=np.uint8).reshape(ROWS, 1, width)

    def blocks(self, products: NDArray[np.uint8]) -> list[bytes]:
        ids = np.arange(1, ROWS + 1)
        nonces = [one.nonce for one in self.batch]
        steps = range(0, ROWS, self.block_rows)
        some = [slice(i, i + self.block_rows) for i in steps]
        return [frames.block(ids[part], products[part], nonces[part]) for part in some]

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        products = self.products(request)
        whole = [frames.head(1, products.shape[2], ROWS), *self.blocks(products), frames.end()]
        return self.respond(whole)

    def respond(self, parts: Sequence[bytes], breaks: bool = False) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": frames.MEDIA_TYPE}, stream=Pieces(parts, breaks))


def retriever(context: ExecutionContext, service: LyingService) -> Retriever:
    transport = httpx2.MockTransport(service.answer)
    retries = Retries(attempts=3, first_delay_s=0.001)
    return Retriever(
        context, XTraceIntegration("org", "key", api_url="http://service", transport=transport, retries=retries)
    )


async def search(context: ExecutionContext, service: LyingService) -> tuple[list[int], list[int]]:
    return await retriever(context, service).nn_search_for_ids(VECTORS[4], 3, "kb", include_scores=True)


@pytest.mark.parametrize("block_rows", [1, 7, 30])
async def test_an_honest_stream_gives_the_nearest(context: ExecutionContext, block_rows: int) -> None:
    distances = (VECTORS ^ VECTORS[4]).sum(axis=1)
    order = np.lexsort((np.arange(ROWS), distances))[:3]
    ids, scores = await search(context, LyingService(context, block_rows))
    assert ids == (order + 1).tolist()
    assert scores == distances[order].tolist()


class Plain(LyingService):
    """Knows no frames."""

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        nonces = [one.nonce for one in self.batch]
        rows = [[[p.tobytes().rstrip(b"\0")], i, nonces[i - 1]] for i, (p,) in enumerate(self.products(request), 1)]
        body = msgspec.msgpack.encode(rows)
        pieces = Pieces([body[at : at + 100] for at in range(0, len(body), 100)])
        return httpx2.Response(200, headers={"content-type": "application/x-msgpack"}, stream=pieces)


@pytest.mark.parametrize("read_bytes", [1, 400, 1 << 16])
async def test_a_service_without_frames_is_understood(
    read_bytes: int, context: ExecutionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_rows, "_READ_BYTES", read_bytes)
    assert await search(context, Plain(context)) == await search(context, LyingService(context))


@pytest.mark.parametrize("position", [0, 14, 29])
async def test_blocks_of_a_service_without_frames_need_not_be_equally_wide(
    position: int, context: ExecutionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shortening(Plain):
        def products(self, request: httpx2.Request) -> NDArray[np.uint8]:
            products = super().products(request).copy()
            products[position, 0, 1:] = 0
            return products

    monkeypatch.setattr(packed_rows, "_READ_BYTES", 1)
    with pytest.raises(InvalidRows) as raised:
        await search(context, Shortening(context))
    assert raised.value.positions == [position]


async def test_bad_rows_of_any_block_are_named_after_all_were_read(context: ExecutionContext) -> None:
    class Substituting(LyingService):
        def products(self, request: httpx2.Request) -> NDArray[np.uint8]:
            products = super().products(request).copy()
            products[[2, 29], 0, 5] ^= 1
            return products

    with pytest.raises(InvalidRows) as raised:
        await search(context, Substituting(context))
    assert raised.value.chunk_ids == [3, 30]
    assert raised.value.positions == [2, 29]


async def test_of_many_bad_rows_the_first_are_named_and_all_are_counted(
    context: ExecutionContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Substituting(LyingService):
        def products(self, request: httpx2.Request) -> NDArray[np.uint8]:
            return np.zeros_like(super().products(request))

    monkeypatch.setattr(scan, "MAX_NAMED_ROWS", 10)
    with pytest.raises(InvalidRows, match=r"for 30 chunks .*10 and 20 more") as raised:
        await search(context, Substituting(context))
    assert raised.value.chunk_ids == list(range(1, 11))
    assert raised.value.positions == list(range(10))
    assert raised.value.count == ROWS


@pytest.mark.parametrize("kept", range(6))
async def test_a_stream_that_is_cut_off_is_no_answer_and_is_not_asked_for_again(
    context: ExecutionContext, kept: int
) -> None:
    class Cutting(LyingService):
        def respond(self, parts: Sequence[bytes], breaks: bool = False) -> httpx2.Response:
            return super().respond(parts[:kept])

    service = Cutting(context)
    with pytest.raises(InvalidAnswer, match="cut off"):
        await search(context, service)
    assert service.calls == 1


class Breaking(LyingService):
    """Breaks the connection after the head and some blocks of its first answers, and answers for a range of ids."""

    def __init__(self, context: ExecutionContext, breaks: int, kept: int) -> None:
        super().__init__(context)
        self.breaks, self.kept = breaks, kept
        self.ranges: list[list[int] | None] = []

    def blocks(self, products: NDArray[np.uint8]) -> list[bytes]:
        ids = np.arange(1, ROWS + 1)
        bounds = self.ranges[-1] or [1, ROWS]
        rows = np.flatnonzero((bounds[0] <= ids) & (ids <= bounds[1]))
        parts = [rows[at : at + self.block_rows] for at in range(0, len(rows), self.block_rows)]
        return [frames.block(ids[part], products[part], [self.batch[i].nonce for i in part]) for part in parts]

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.calls += 1
        self.ranges.append(msgspec.json.decode(request.content).get("range"))
        products = self.products(request)
        blocks = self.blocks(products)
        bounds = self.ranges[-1] or [1, ROWS]
        count = min(bounds[1], ROWS) - bounds[0] + 1
        parts = [frames.head(1, products.shape[2], count), *blocks, frames.end()]
        breaks = self.calls <= self.breaks
        return self.respond(parts[: self.kept] if breaks else parts, breaks)


@pytest.mark.parametrize(("kept", "after"), [(0, [0, 0]), (1, [0, 0]), (2, [7, 14]), (3, [14, 28]), (5, [28, 30])])
async def test_of_a_stream_that_breaks_the_rest_is_requested(
    context: ExecutionContext, kept: int, after: list[int]
) -> None:
    service = Breaking(context, 2, kept)
    assert await search(context, service) == await search(context, LyingService(context))
    assert service.ranges == [None, *[[last + 1, 2**63 - 1] if last else None for last in after]]


async def test_the_rest_stays_within_the_range_of_the_search(context: ExecutionContext) -> None:
    service = Breaking(context, 1, 3)
    found = await retriever(context, service).nn_search_for_ids(VECTORS[4], ROWS, "kb", range_filter=(3, 29))
    assert sorted(found) == list(range(3, 30))
    assert service.ranges == [[3, 29], [17, 29]]
    service = Breaking(context, 1, 3)
    found = await retriever(context, service).nn_search_for_ids(VECTORS[4], ROWS, "kb", range_filter=(3, 16))
    assert sorted(found) == list(range(3, 17))
    assert service.ranges == [[3, 16]]


async def test_a_stream_that_always_breaks_is_one_error_after_all_attempts(context: ExecutionContext) -> None:
    service = Breaking(context, 10, 2)
    with pytest.raises(ServerUnreachable, match="was closed before the answer was complete"):
        await search(context, service)
    assert service.calls == 3


async def test_frames_out_of_order_or_missing_are_refused(context: ExecutionContext) -> None:
    class Shuffling(LyingService):
        def blocks(self, products: NDArray[np.uint8]) -> list[bytes]:
            blocks = super().blocks(products)
            return [blocks[1], blocks[0], *blocks[2:]]

    class Withholding(LyingService):
        def blocks(self, products: NDArray[np.uint8]) -> list[bytes]:
            return super().blocks(products)[:-1]

    class Doubling(LyingService):
        def blocks(self, products: NDArray[np.uint8]) -> list[bytes]:
            return super().blocks(products)[:1] * 2

    for service, complaint in ((Shuffling, "ascending"), (Withholding, "announced 30"), (Doubling, "ascending")):
        with pytest.raises(InvalidAnswer, match=complaint):
            await search(context, service(context))


async def test_rows_of_another_shape_are_refused(context: ExecutionContext) -> None:
    class Widening(LyingService):
        def answer(self, request: httpx2.Request) -> httpx2.Response:
            block = frames.block(np.array([1]), np.zeros((1, 2, 8), np.uint8), [bytes(14)])
            return self.respond([frames.head(2, 8, 1), block, frames.end()])

    with pytest.raises(InvalidAnswer, match="2 ciphertexts a row, expected 1"):
        await search(context, Widening(context))


async def test_refusals_and_passing_faults_are_as_for_every_call(context: ExecutionContext) -> None:
    class Refusing(LyingService):
        def answer(self, request: httpx2.Request) -> httpx2.Response:
            self.calls += 1
            return httpx2.Response(401, json={"detail": "the key is wrong", "code": "unauthenticated"})

    class Recovering(LyingService):
        def answer(self, request: httpx2.Request) -> httpx2.Response:
            if self.calls < 2:
                self.calls += 1
                return httpx2.Response(503, json={"detail": "later", "code": "unavailable"})
            return super().answer(request)

    class Garbage(LyingService):
        def answer(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, headers={"content-type": "text/html"}, content=b"<html>")

    with pytest.raises(Unauthenticated, match="the key is wrong"):
        await search(context, Refusing(context))
    assert len((await search(context, Recovering(context)))[0]) == 3
    with pytest.raises(NetworkError, match="text/html"):
        await search(context, Garbage(context))
