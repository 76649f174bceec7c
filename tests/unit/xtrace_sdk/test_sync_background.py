"""The loop behind the synchronous twins: waiting, interrupting, closing, forking and ending."""

import asyncio
import contextvars
import gc
import signal
import threading
import time
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import pytest

from support.script import Ended, run_script
from xtrace_sdk.errors import InvalidCall
from xtrace_sdk.sync._background import in_threads, iterate, run


async def sleeping(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


class Numbers:
    """An asynchronous generator that says what becomes of it."""

    def __init__(self) -> None:
        self.is_closed = threading.Event()

    async def count(self) -> AsyncGenerator[int, None]:
        try:
            for i in range(1_000_000):
                await asyncio.sleep(0)
                yield i
        finally:
            await asyncio.sleep(0)
            self.is_closed.set()


def script(code: str, interrupt_after: str = "") -> Ended:
    preface = """
        import asyncio, os, sys, threading, time
        from xtrace_sdk.sync._background import iterate, run
    """
    return run_script(preface, code, interrupt_after=interrupt_after)


def test_a_call_gives_what_the_coroutine_returns_and_raises() -> None:
    async def failing() -> None:
        raise ValueError("no")

    assert run(sleeping(0)) == "slept"
    with pytest.raises(ValueError, match="no"):
        run(failing())


async def test_a_call_works_where_an_event_loop_runs() -> None:
    assert run(sleeping(0)) == "slept"
    assert await asyncio.to_thread(run, sleeping(0)) == "slept"


def test_calls_of_several_threads_go_on_at_once() -> None:
    all_there = asyncio.Barrier(20)

    async def meeting() -> None:
        async with asyncio.timeout(10):
            await all_there.wait()

    with ThreadPoolExecutor(20) as threads:
        for done in [threads.submit(run, meeting()) for _ in range(20)]:
            done.result()
    assert sum(thread.name == "xtrace-sdk-sync" for thread in threading.enumerate()) == 1


def test_the_callers_context_is_seen() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def seen() -> str:
        return variable.get()

    variable.set("the caller's")
    assert run(seen()) == "the caller's"


def test_an_exception_is_not_kept_alive() -> None:
    class Fault(Exception):
        pass

    async def failing() -> None:
        raise Fault

    gc.disable()
    try:
        try:
            run(failing())
        except Fault as fault:
            kept = weakref.ref(fault)
        deadline = time.monotonic() + 5
        while kept() is not None and time.monotonic() < deadline:
            time.sleep(0.001)  # the loop lets go of the task
        assert kept() is None
    finally:
        gc.enable()


def test_a_call_by_a_callback_of_a_call_is_refused_and_not_waited_for() -> None:
    async def calling_back() -> None:
        run(sleeping(0))

    with pytest.raises(InvalidCall, match="asynchronous classes"):
        run(calling_back())


def test_a_task_that_raises_what_stops_a_loop_does_not_stop_this_one() -> None:
    async def leaving() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run(leaving())
    assert run(sleeping(0)) == "slept"


def test_a_generator_gives_the_items() -> None:
    async def items() -> AsyncGenerator[int | None, None]:
        for item in (0, None, 2):
            yield item

    assert list(iterate(items())) == [0, None, 2]


def test_a_generator_raises_what_the_asynchronous_one_raises() -> None:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        raise ValueError("no more")

    iterator = iterate(items())
    assert next(iterator) == 1
    with pytest.raises(ValueError, match="no more"):
        next(iterator)


def test_closing_a_generator_closes_the_asynchronous_one() -> None:
    numbers = Numbers()
    iterator = iterate(numbers.count())
    assert [next(iterator), next(iterator)] == [0, 1]
    iterator.close()
    assert numbers.is_closed.is_set()


def test_leaving_a_generator_closes_the_asynchronous_one() -> None:
    numbers = Numbers()
    for number in iterate(numbers.count()):
        if number == 3:
            break
    assert numbers.is_closed.wait(10)


def test_a_generator_that_the_loops_own_thread_collects_is_closed() -> None:
    numbers = Numbers()
    held = [iterate(numbers.count())]
    next(held[0])

    async def drop() -> None:
        held.clear()

    run(drop())
    assert numbers.is_closed.wait(10)


class Plain:
    """An object of a caller's own."""

    def answer(self, number: int, *, plus: int) -> Any:
        return run(sleeping(0)), number + plus

    async def awaited(self) -> int:
        return 5


@runtime_checkable
class Answering(Protocol):
    def answer(self, number: int, *, plus: int) -> Any: ...


def test_plain_objects_are_called_in_threads_and_may_make_calls_themselves() -> None:
    async def both() -> Any:
        plain = in_threads(Plain(), Answering)
        return await plain.answer(1, plus=2), await plain.awaited()

    assert run(both()) == (("slept", 3), 5)
    assert isinstance(in_threads(Plain(), Answering), Answering)


def test_what_is_not_of_the_protocol_is_left_alone() -> None:
    vectors = [[0, 1]]
    assert in_threads(vectors, Answering) is vectors


def test_ctrl_c_cancels_the_work_and_says_what_it_says() -> None:
    done = script(
        """
        async def work():
            try:
                print("working")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
                error = asyncio.CancelledError("stopped")
                error.add_note("500 of 900 are stored")
                raise error from None

        began = time.monotonic()
        try:
            run(work())
        except KeyboardInterrupt as interrupt:
            print(str(interrupt).replace("\\n", "; "), time.monotonic() - began < 5)
        print(run(asyncio.sleep(0, "usable")))
        """,
        interrupt_after="working",
    )
    assert done == (0, "stopped; 500 of 900 are stored True\nusable\n", "")


def test_ctrl_c_says_also_what_an_exception_says_that_the_work_makes_of_it() -> None:
    done = script(
        """
        async def work():
            try:
                print("working")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise ValueError("500 are stored") from None

        try:
            run(work())
        except KeyboardInterrupt as interrupt:
            print(interrupt)
        """,
        interrupt_after="working",
    )
    assert done == (0, "500 are stored\n", "")


def test_a_second_ctrl_c_does_not_wait_for_the_end_of_the_work() -> None:
    done = script(
        """
        import signal

        async def work():
            try:
                print("working")
                await asyncio.sleep(60)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                await asyncio.sleep(2)

        def again(*_):
            raise KeyboardInterrupt

        signal.signal(signal.SIGALRM, again)
        began = time.monotonic()
        try:
            run(work())
        except KeyboardInterrupt:
            print(time.monotonic() - began < 1.5)
        """,
        interrupt_after="working",
    )
    assert done == (0, "True\n", "")


def test_ctrl_c_ends_a_generator_and_closes_it() -> None:
    done = script(
        """
        async def items():
            try:
                yield 1
                print("working")
                await asyncio.sleep(60)
            finally:
                print("closed")

        try:
            for item in iterate(items()):
                pass
        except KeyboardInterrupt:
            print("interrupted")
        """,
        interrupt_after="working",
    )
    assert done == (0, "closed\ninterrupted\n", "")


def test_whatever_else_interrupts_a_call_cancels_it_too() -> None:
    cancelled = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    def alarm(*_: Any) -> None:
        raise TimeoutError("the caller's own")

    before = signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimeoutError, match="the caller's own"):
            run(work())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert cancelled.is_set()


def test_the_interpreter_ends_quietly_whatever_is_under_way() -> None:
    done = script(
        """
        async def items():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                print("closed")

        async def work():
            try:
                began.set()
                await asyncio.sleep(60)
            finally:
                print("cancelled")

        began = threading.Event()
        threading.Thread(target=lambda: run(work()), daemon=True).start()
        began.wait()
        left = iterate(items())
        next(left)
        """
    )
    assert (done.status, sorted(done.out.split()), done.err) == (0, ["cancelled", "closed"], "")


def test_exit_handlers_of_the_caller_may_make_calls() -> None:
    done = script(
        """
        import atexit
        atexit.register(lambda: print(run(asyncio.sleep(0, "closed"))))
        run(asyncio.sleep(0))
        """
    )
    assert done == (0, "closed\n", "")


def test_a_call_after_the_end_is_refused() -> None:
    done = script(
        """
        import atexit, xtrace_sdk.sync._background as background
        from xtrace_sdk.errors import InvalidCall

        def late():
            try:
                run(asyncio.sleep(0))
            except InvalidCall as error:
                print(error)

        run(asyncio.sleep(0))
        atexit.unregister(background._end)
        atexit.register(late)
        atexit.register(background._end)
        """
    )
    assert done.out.startswith("the interpreter is ending"), done.err
    assert (done.status, done.err) == (0, "")


def test_a_forked_child_has_a_loop_of_its_own_and_leaves_the_parents_alone() -> None:
    done = script(
        """
        async def items():
            try:
                yield os.getpid()
                yield 0
            finally:
                print("closed by", "its own process" if own == os.getpid() else "another")

        own = os.getpid()
        left = iterate(items())
        next(left)
        child = os.fork()
        if not child:
            print(run(asyncio.sleep(0, "child")))
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), run(asyncio.sleep(0, "parent")))
        """
    )
    assert done == (0, "child\n7 parent\nclosed by its own process\n", "")
