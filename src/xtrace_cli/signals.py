"""Signals that shall end a command in good order."""

import signal


def end_as_ctrl_c_does(*signals: signal.Signals) -> None:
    """From now on these signals end the command as Ctrl-C does; what is ignored (`nohup`) stays ignored."""
    for number in signals:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
