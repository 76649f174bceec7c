"""The scanner of a server with a cluster: computes rows there if they are held there, others in local threads."""

import asyncio
import math
import pickle
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_server.errors import Unavailable
from xtrace_server.search.interface import Computation, Finish, HeldSegment, Nonces, Place, Segment, Selection
from xtrace_server.search.ray.attempts import check_reply, pauses
from xtrace_server.search.ray.client import BridgeClient, Call
from xtrace_server.search.ray.messages import AnyRequest, Compute, Hold, Reply, Rows, Status
from xtrace_server.search.segment_names import packed_nonces
from xtrace_server.settings import Settings

_T = TypeVar("_T")
_STEP: Final = 8
"""The number of selections in one call: of those that `Search` makes, a segment of the usual size with its answers."""
_ALWAYS: Final = 2
"""The number of concurrent calls that every search may have."""
_LOCAL: Final = 2
"""The number of steps of one search that may occupy threads of this process at once."""
_WIDEST: Final = 16
"""The maximum number of concurrent calls of one search."""
_SPARE_CALLS: Final = 32
"""The number of additional concurrent calls of all searches, whose answers wait in the bridge."""
_FULL_S: Final = 60.0
"""The pause after the cluster was full before rows are sent there again."""
_MIN_DENSITY: Final = 4
"""A knowledge base with fewer than one chunk left in this many is searched locally."""
_nonces: Final = msgspec.msgpack.Decoder(list[bytes | None])


class RayScanner:
    """Holds segments of large knowledge bases in a Ray cluster, and computes with them there."""

    def __init__(self, settings: Settings) -> None:
        self.remote: RayScanner = self
        self.segment_rows = settings.ray_segment_rows
        self._settings = settings
        self._pool = ThreadPoolExecutor(settings.search_threads, thread_name_prefix="xtrace-search")
        self.client = BridgeClient(settings)
        self.timeout_s = settings.ray_timeout_s
        self.spare_calls = _SPARE_CALLS
        self._full_until = 0.0

    async def start(self) -> None:
        await self.client.start()

    async def close(self) -> None:
        await self.client.close()
        self._pool.shutdown(cancel_futures=True)

    @property
    def nodes(self) -> int:
        """The last known number of nodes that hold segments."""
        return self.client.state.nodes

    @property
    def held_bytes(self) -> int:
        """The last known number of bytes that they hold."""
        return self.client.state.held_bytes

    def wants(self, rows: int, ids: int) -> bool:
        """Returns whether to hold a knowledge base there that has `rows` chunks and has assigned `ids` ids so far."""
        large = rows >= self._settings.ray_min_rows and rows * _MIN_DENSITY >= ids
        return large and self.client.available and time.monotonic() >= self._full_until

    async def hold(self, segment: Segment) -> Place:
        """Stores the rows there, and returns their place. Raises `Unavailable`."""
        if (await self.client.hold(Hold(timeout_s=self.timeout_s, name=segment.name), None)).status is Status.DONE:
            return Place(segment.name)
        request = Hold(
            timeout_s=self.timeout_s,
            name=segment.name,
            nonces=packed_nonces(segment.nonces),
            row_bytes=segment.row_bytes,
            payload=segment.rows.nbytes,
        )
        await self.bring(request, np.ascontiguousarray(segment.rows))
        return Place(segment.name)

    async def bring(self, request: Hold, payload: Rows) -> None:
        """Stores a payload there. Raises `Unavailable`."""
        for pause_s in pauses():
            reply = await self.client.hold(request, payload)
            if reply.status is Status.DONE:
                return
            if reply.status is Status.FULL:
                self._full_until = time.monotonic() + _FULL_S
                raise Unavailable("the cluster is full (ray_node_bytes)")
            check_reply(reply)
            await asyncio.sleep(pause_s)
        raise Unavailable("the cluster's nodes keep changing, so it cannot hold rows")

    async def exchange(self, request: AnyRequest) -> tuple[Reply, Rows]:
        """Sends a request without payload, and returns the reply. Raises `Unavailable`."""
        call = await self.client.begin(request)
        try:
            await call.ready()
            return await self.in_thread(call.reply)
        except (OSError, msgspec.DecodeError):
            raise Unavailable("the cluster cannot be reached") from None
        finally:
            call.close()

    async def scan(
        self, selections: AsyncIterator[Selection | None], computation: Computation, finish: Finish[_T]
    ) -> AsyncGenerator[_T, None]:
        """Computes ahead: in the cluster, as far as calls are free, and locally by one step."""
        scan = _Scan(self, computation, finish)
        try:
            async for step in _steps(selections):
                if step is not None:
                    await scan.begin(step)
                while scan.under_way and (step is None or not scan.may_begin):
                    for done in await scan.next():
                        yield done
            while scan.under_way:
                for done in await scan.next():
                    yield done
        finally:
            scan.close()

    async def in_thread(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Runs the work in one of the search threads, and returns its result."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    async def restore(self, segment: HeldSegment, lost: Place) -> None:
        """Stores rows that the cluster has lost there again. Raises `Unavailable`."""
        async with segment.restoring:
            if segment.place is lost:  # else another search has done it
                segment.place = await self.hold(await segment.reload(segment.pks))
                segment.whole = len(segment.pks)


@dataclass(slots=True, eq=False)
class _Step:
    """Selections of one segment that are computed together."""

    selections: list[Selection]
    call: Call | None = None
    place: Place | None = None
    spare: bool = False
    """Whether it has taken one of the scanner's spare calls."""
    task: asyncio.Task[Any] | None = None
    """Computes it here, or reads what the cluster has computed."""


class _Scan(Generic[_T]):
    """The running steps of one search, in order."""

    def __init__(self, scanner: RayScanner, computation: Computation, finish: Finish[_T]) -> None:
        self._scanner = scanner
        self._computation = computation
        self._pickled = pickle.dumps((computation.evaluation, list(computation.queries)))
        self._finish = finish
        self._steps: deque[_Step] = deque()
        self._local = asyncio.Semaphore(_LOCAL)

    @property
    def under_way(self) -> bool:
        """Whether a step is running."""
        return bool(self._steps)

    @property
    def may_begin(self) -> bool:
        """Whether another step may start before the first has ended."""
        count = len(self._steps)
        return count < _ALWAYS or (count < _WIDEST and self._scanner.spare_calls > 0)

    async def begin(self, step: _Step) -> None:
        """Adds a step, and starts it. Raises `Unavailable`."""
        if len(self._steps) >= _ALWAYS:
            step.spare = True
            self._scanner.spare_calls -= 1
        self._steps.append(step)
        segment = step.selections[0].segment
        if isinstance(segment, HeldSegment):
            step.call = await self._called(step, segment)
        else:
            step.task = _started(self._computed(step))
        self._first()

    async def next(self) -> list[_T]:
        """Returns the result of the first step, and continues with the next. Raises `Unavailable`."""
        done: list[_T] = await self._first()
        self._end(self._steps.popleft())
        if self._steps:
            self._first()
        return done

    def close(self) -> None:
        """Cancels the running steps."""
        while self._steps:
            self._end(self._steps.popleft())

    def _end(self, step: _Step) -> None:
        if step.task is not None:
            step.task.cancel()
        if step.call is not None:
            step.call.close()
        self._scanner.spare_calls += step.spare

    def _first(self) -> asyncio.Task[list[_T]]:
        """Returns the task of the first step. The answers of further steps wait in the bridge."""
        step = self._steps[0]
        if step.task is None:
            step.task = _started(self._answered(step))
        return step.task

    async def _computed(self, step: _Step) -> list[_T]:
        """Computes a step in this process."""

        def work() -> list[_T]:
            return [self._finish(one, self._computation(one.rows), one.nonces) for one in step.selections]

        async with self._local:
            return await self._scanner.in_thread(work)

    async def _answered(self, step: _Step) -> list[_T]:
        """Reads what the cluster has computed. Raises `Unavailable`."""
        segment = step.selections[0].segment
        assert isinstance(segment, HeldSegment)  # noqa: S101 - the others are computed here
        for pause_s in pauses():
            if step.call is None or step.place is None:
                step.call = await self._called(step, segment)
            call, lost = step.call, step.place
            await call.ready()
            try:
                reply, done = await self._scanner.in_thread(self._read, call, step)
            except (OSError, msgspec.DecodeError):
                raise Unavailable("the cluster cannot be reached") from None
            if done is not None:
                return done
            check_reply(reply)
            step.call = None
            if lost is not None:
                await self._scanner.restore(segment, lost)
            await asyncio.sleep(pause_s)
        raise Unavailable("the cluster's nodes keep changing, so it cannot hold rows")

    async def _called(self, step: _Step, segment: HeldSegment) -> Call:
        step.place = segment.place
        where = _positions(step, segment.place)
        ends = where if isinstance(where, tuple) else (0, 0)
        return await self._scanner.client.begin(
            Compute(
                timeout_s=self._scanner.timeout_s,
                name=segment.place.name,
                computation=self._pickled,
                positions=None if isinstance(where, tuple) else where.astype("<i4").tobytes(),
                start=ends[0],
                end=ends[1],
            )
        )

    def _read(self, call: Call, step: _Step) -> tuple[Reply, list[_T] | None]:
        """Reads the reply, and checks its lengths. Raises `OSError`."""
        reply, payload = call.reply()
        if reply.status is not Status.DONE:
            return reply, None
        count, width = sum(map(len, step.selections)), math.prod(self._computation.answer_shape)
        nonces: Nonces = _nonces.decode(reply.nonces)
        if len(payload) != count * width or len(nonces) != count:
            raise ConnectionError("an answer of another length than was asked for")
        answers, done, start = payload.reshape(count, width), [], 0
        for selection in step.selections:
            part = slice(start, start + len(selection))
            done.append(self._finish(selection, answers[part], nonces[part]))
            start += len(selection)
        return reply, done


def _started(work: Coroutine[Any, Any, list[_T]]) -> asyncio.Task[list[_T]]:
    task = asyncio.create_task(work)
    # If the scan has failed before, its caller has got that error, and asyncio must not report this one.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    return task


async def _steps(selections: AsyncIterator[Selection | None]) -> AsyncIterator[_Step | None]:
    """Yields the selections in steps, and None when the next one has to be awaited."""
    waiting: list[Selection] = []
    async for selection in selections:
        if waiting and (selection is None or len(waiting) == _STEP or selection.segment is not waiting[0].segment):
            yield _Step(waiting)
            waiting = []
        if selection is None:
            yield None
        elif isinstance(selection.segment, HeldSegment):
            waiting.append(selection)
        else:
            yield _Step([selection])
    if waiting:
        yield _Step(waiting)


def _positions(step: _Step, place: Place) -> tuple[int, int] | NDArray[np.integer[Any]]:
    """Returns where the rows of a step are in the held segment: a range, or each position."""
    ranges = [one.positions for one in step.selections if isinstance(one.positions, range)]
    joined = all(one.stop == two.start for one, two in pairwise(ranges))
    if place.positions is None and joined and len(ranges) == len(step.selections):
        return ranges[0].start, ranges[-1].stop
    each = np.concatenate([np.asarray(one.positions, dtype=np.intp) for one in step.selections])
    return each if place.positions is None else place.positions[each]
