"""A script in a process of its own, with warnings as errors, and Ctrl-C where it is wanted."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import NamedTuple

_PREFACE = """
# A shell starts its background jobs with Ctrl-C ignored; what they start would ignore it, too.
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
# That a process with threads forks is what is tested; from Python 3.12 on it says that this is dangerous.
_WARNINGS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


class Ended(NamedTuple):
    """How a script ended."""

    status: int
    out: str
    err: str


def run_script(preface: str, code: str, *, interrupt_after: str = "", **environment: str) -> Ended:
    """Runs the code after the preface; Ctrl-C comes after a first line of `interrupt_after`."""
    process = subprocess.Popen(
        [sys.executable, *_WARNINGS, "-c", _PREFACE + textwrap.dedent(preface) + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    if interrupt_after:
        assert process.stdout
        assert process.stdout.readline().strip() == interrupt_after
        time.sleep(0.1)  # the line is printed within the call that is interrupted, but perhaps by another thread
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err)
