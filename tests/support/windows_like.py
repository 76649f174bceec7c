"""Runs a program without what Windows does not have: `python windows_like.py -m MODULE …` or `… SCRIPT …`.

No `fork`, no `fcntl`, no owners of files, no SIGHUP; locks as `msvcrt` has them. Paths and the rest stay as they are,
so this shows that the program has an answer, not that Windows behaves so.
"""

import fcntl
import os
import runpy
import select
import selectors as selectors  # takes what it needs of `select` before that goes
import signal
import subprocess as subprocess  # likewise of `os` and `signal`
import sys
import types
from typing import Any

GONE = {
    os: "fork geteuid getuid register_at_fork sched_getaffinity sysconf posix_fallocate "
    "O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_NOCTTY",
    signal: "SIGHUP SIGCHLD SIGUSR1 SIGUSR2 SIGQUIT",
    select: "poll",
}
"""What is taken away: of modules of Python, these names."""


def locking(descriptor: int, kind: int, length: int) -> None:
    """`msvcrt.locking`: a range from the present position on, and `OSError` where another has it."""
    wait = 0 if kind == 1 else fcntl.LOCK_NB
    fcntl.flock(descriptor, fcntl.LOCK_EX | wait)


def take_away() -> None:
    """Leaves this process without them."""
    import asyncio as asyncio
    import multiprocessing as multiprocessing
    import shutil as shutil
    import tempfile as tempfile

    for module, names in GONE.items():
        for name in names.split():
            vars(module).pop(name, None)
    for name in ("fcntl", "resource", "uvloop"):  # their import fails from now on
        sys.modules[name] = None  # type: ignore[assignment]
    msvcrt: Any = types.ModuleType("msvcrt")
    msvcrt.locking, msvcrt.LK_LOCK, msvcrt.LK_NBLCK = locking, 1, 2
    sys.modules["msvcrt"] = msvcrt


if __name__ == "__main__":
    take_away()
    if sys.argv[1] == "-m":
        sys.argv[:] = sys.argv[2:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
