"""What a command shows while it works for long, and what it says when it is stopped."""

import asyncio
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from xtrace_cli import progress
from xtrace_cli.progress import long_work

ON_STOP = "2 files are stored: run it again to go on"
END = "that was all"


@contextmanager
def screen_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal that standard error goes to within the block; its other side."""
    master, slave = pty.openpty()
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        yield master
        monkeypatch.undo()
    os.close(master)


def shown(screen: int) -> str:
    """What was written to the terminal: what comes up to an end that is written now."""
    sys.stderr.write(END)
    sys.stderr.flush()
    text = ""
    while not text.endswith(END):
        text += os.read(screen, 65536).decode()
    return text.removesuffix(END)


def test_long_work_shows_what_is_done_and_how_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_QUICK_S", -1.0)
    with screen_of(monkeypatch) as screen:
        with long_work("Loading", 3) as work:
            for _ in range(3):
                work.advance(1)
        text = shown(screen)
    assert work.done == 3
    assert "Loading" in text
    assert "3/3" in text


def test_quick_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with screen_of(monkeypatch) as screen:
        with long_work("Loading", 3) as work:
            work.advance(3)
        assert shown(screen) == ""


def test_nothing_is_shown_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_QUICK_S", -1.0)
    with long_work("Loading") as work:
        work.advance(3)
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_says_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), long_work("Loading", on_stop=lambda: ON_STOP):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == f"xtrace: {ON_STOP}\n"


def test_ctrl_c_in_a_coroutine_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> None:
        with long_work("Loading", on_stop=lambda: ON_STOP):
            started.set()
            await asyncio.Event().wait()

    async def run() -> None:
        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()  # what an event loop does for Ctrl-C
        with pytest.raises(asyncio.CancelledError):
            await task

    started = asyncio.Event()
    asyncio.run(run())
    assert capsys.readouterr().err == f"xtrace: {ON_STOP}\n"


def test_another_error_is_left_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="mine"), long_work("Loading", on_stop=lambda: ON_STOP):
        raise ValueError("mine")
    assert ON_STOP not in capsys.readouterr().err
