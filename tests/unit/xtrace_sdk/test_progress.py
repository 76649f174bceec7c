"""Progress shows on a terminal and nowhere else."""

import os
import pty
import subprocess
import sys

SCRIPT = """
from xtrace_sdk.progress import progress_bar
with progress_bar("Storing", 10) as advance:
    for _ in range(10):
        advance(1)
"""


def test_a_terminal_shows_a_bar() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, stdout=subprocess.DEVNULL, timeout=60, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b"Storing" in shown
    assert b"10/10" in shown


def test_a_pipe_or_file_shows_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
