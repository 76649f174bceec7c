"""Signals that end a command cleanly."""

import signal
from types import FrameType
from typing import Final

HANG_UP: Final[tuple[signal.Signals, ...]] = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
"""The signal that a terminal sends when it closes; Windows does not have it."""


def end_as_ctrl_c_does(*signals: signal.Signals) -> None:
    """From now on, these signals end the command as Ctrl-C does; ignored ones (`nohup`) stay ignored."""
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _act_as_ctrl_c)


def _act_as_ctrl_c(_: int, frame: FrameType | None) -> None:
    # An event loop answers Ctrl-C by cancelling its main task; an exception in the middle of a callback would break it.
    handler = signal.getsignal(signal.SIGINT)
    (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)
