"""Where the asynchronous core of the twins runs: one event loop in a daemon thread, for the whole process.

It starts with the first call. Callers wait in their own threads, so a running event loop there (a notebook,
an asynchronous program) does not matter. A forked child starts a loop of its own: it has none of the parent's threads.
"""

import asyncio
import atexit
import contextvars
import inspect
import os
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Generic, Self, TypeVar, cast

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InvalidCall
from xtrace_sdk.x_vec.chunks.vectors import resolve

T = TypeVar("T")
Item = TypeVar("Item")
Core = TypeVar("Core")

_LONGEST_END_S = 10.0
"""How long the interpreter's end waits for calls that do not heed their cancellation."""


class Twin(Secretive, Generic[Core]):
    """A synchronous object before its asynchronous core, which does everything."""

    _core: Core

    @classmethod
    def of(cls, given: "Core | Self") -> Self:
        """The twin of an object of `xtrace_sdk`, which shares its state and connections; of a twin, itself."""
        if isinstance(given, cls):
            return given
        twin = cls.__new__(cls)
        twin._core = cast("Core", given)
        return twin

    @property
    def asynchronous(self) -> Core:
        """The object of `xtrace_sdk` that does everything. Its calls can be awaited in any event loop."""
        return self._core

    def __eq__(self, other: object) -> bool:
        return self._core == other._core if isinstance(other, type(self)) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._core)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles what the core pickles, if it does; most cores hold secrets, and refuse."""
        made: Any = self._core.__reduce_ex__(protocol)
        make, (_, *parameters) = made
        return make, (type(self), *parameters)


def close_when_dropped(twin: Twin[Any], aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Closes connections when no one holds the twin any more: the loop goes on, and would keep them open."""
    weakref.finalize(twin, _close_later, aclose).atexit = False


def core_of(twin: Twin[Core]) -> Core:
    """The asynchronous object behind a twin; one that was given in a twin's place serves as well."""
    given: Any = twin
    core: Core = given._core if isinstance(given, Twin) else given
    return core


def in_threads(given: Any, protocol: type) -> Any:
    """What is given, with calls that can be awaited if it is of the protocol: of a twin its core's, else in threads."""
    if isinstance(given, Twin):
        return given._core
    return _InThreads(given) if isinstance(given, protocol) else given


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns or raises, carried out on the SDK's event loop in another thread.

    It may use asynchronous objects of the SDK, which serve any number of event loops. Raises `InvalidCall` in a
    callback of the SDK, which would wait for itself.

    Ctrl-C cancels it, waits until it has come to its end (a second Ctrl-C does not wait), and is a `KeyboardInterrupt`
    with what the coroutine has to say about that.
    """
    try:
        background = _started()
        background.check_elsewhere()
    except BaseException:
        coroutine.close()
        raise
    call = _Call(background, coroutine)
    try:
        call.begin()
        wait([call.outcome])
    except BaseException as interruption:
        call.cancel()
        wait([call.outcome])
        if isinstance(interruption, KeyboardInterrupt):
            raise _with_message(interruption, call.outcome.exception()) from None
        raise
    try:
        return call.outcome.result()
    finally:
        del call  # else an exception, by its traceback, would hold itself


def iterate(items: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """The items, each asked for when it is wanted; closing this generator closes the asynchronous one."""
    background = _started()
    try:
        while got := run(_next(items)):
            yield got[0]
    finally:
        background.close(items)


def run_or_iterate(
    coroutine: Coroutine[Any, Any, T | AsyncGenerator[Item, None]],
) -> T | Generator[Item, None, None]:
    """What the coroutine returns, as `run` gives it; if that is an asynchronous generator, a plain one of its items."""
    returned = run(coroutine)
    return iterate(returned) if isinstance(returned, AsyncGenerator) else returned


async def _next(items: AsyncGenerator[T, None]) -> tuple[T] | tuple[()]:
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return ()


def _close_later(aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
    if _background is not None:
        _background.close_later(aclose)


def _with_message(interruption: KeyboardInterrupt, error: BaseException | None) -> KeyboardInterrupt:
    said = [str(error), *getattr(error, "__notes__", ())] if error else []
    return KeyboardInterrupt("\n".join(filter(None, said))) if any(said) else interruption


class _Background:
    """The event loop and its thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.is_ending = False
        self._closing: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._serve, name="xtrace-sdk-sync", daemon=True)
        self._thread.start()

    def check_elsewhere(self) -> None:
        """Raises `InvalidCall` if waiting for the loop would never end."""
        if self.is_ending:
            raise InvalidCall("the interpreter is ending, and the connections are closed: make such calls before")
        if threading.current_thread() is self._thread:
            raise InvalidCall(
                "a synchronous call was made by a callback of another one, which would wait for itself: "
                "use the asynchronous classes there, or make the call afterwards"
            )

    def close(self, items: AsyncGenerator[Any, None]) -> None:
        """Closes an asynchronous generator that this loop has begun."""
        if self is not _background or self.is_ending:
            return  # it is the parent process's, or was closed with the loop
        if threading.current_thread() is self._thread:  # garbage is collected in any thread
            self.close_later(items.aclose)
        else:
            run(items.aclose())

    def close_later(self, aclose: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Closes something that no one waits for."""

        def begin() -> None:
            task = self.loop.create_task(aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

        if not self.is_ending:  # then the loop closes all that is left
            self.loop.call_soon_threadsafe(begin)

    def end(self) -> None:
        """Cancels what is under way and closes generators, thereby connections, and the loop."""
        self.is_ending = True
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_LONGEST_END_S)

    def _serve(self) -> None:
        while not self.is_ending:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                # A task raised it, which stops a loop; its caller gets it, and the others' calls go on.
                continue
        self.loop.run_until_complete(self._wind_up())
        # The executor's threads have ended before: `concurrent.futures` waits for them ahead of all exit handlers.
        self.loop.close()

    async def _wind_up(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks - self._closing:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.loop.shutdown_asyncgens()


class _Call(Generic[T]):
    """One coroutine on the loop, and what became of it."""

    def __init__(self, background: _Background, coroutine: Coroutine[Any, Any, T]) -> None:
        self.outcome: Future[T] = Future()
        self._background = background
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._background.loop.call_soon_threadsafe(self._begin)

    def cancel(self) -> None:
        self._background.loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> asyncio.Task[T]:
        self._task = self._background.loop.create_task(self._coroutine)
        self._task.add_done_callback(self._ended)
        return self._task

    def _cancel(self) -> None:
        # There is no task yet where the interruption came before `begin` had done anything.
        (self._task or self._begin()).cancel()

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            if not self._background.is_ending:  # else only a daemon thread waits, and ends with the interpreter
                self.outcome.set_exception(_cancellation(task))
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


def _cancellation(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    try:
        task.exception()
    except asyncio.CancelledError as error:
        return error
    return asyncio.CancelledError()


class _InThreads:
    """A plain object as its protocol wants it: with calls to await.

    Each has a thread of its own, because it may make synchronous calls, which wait for the loop's threads.
    """

    def __init__(self, plain: Any) -> None:
        # Attributes of its own, not `__getattr__`: what is of a protocol is found out by looking at those.
        for name in dir(plain):
            if not name.startswith("_") and callable(inspect.getattr_static(plain, name)):
                setattr(self, name, _in_a_thread(getattr(plain, name)))


def _in_a_thread(method: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*arguments: Any, **named: Any) -> Any:
        work = partial(contextvars.copy_context().run, method, *arguments, **named)
        thread = ThreadPoolExecutor(1, thread_name_prefix="xtrace-sdk-sync-call")
        returned = asyncio.get_running_loop().run_in_executor(thread, work)
        thread.shutdown(wait=False)  # it ends with the call
        return await resolve(await returned)

    return call


_background: _Background | None = None
_inherited: list[_Background] = []
_starting = threading.RLock()  # a signal handler, or the collector, may call while it is held


def _started() -> _Background:
    global _background
    with _starting:
        if _background is None:
            _background = _Background()
        return _background


def _end() -> None:
    if _background is not None:
        _background.end()


def _forked() -> None:
    """In the child: the parent's loop is never touched again, not even closed, for both share its file descriptors."""
    global _background, _starting
    if _background is not None:
        _inherited.append(_background)
    _background = None
    _starting = threading.RLock()


# Registered when the module is imported, so that handlers that callers register later, and that may call, come first.
atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
