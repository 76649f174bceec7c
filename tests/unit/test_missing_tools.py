"""A run without a tool says so at its end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_the_end_of_a_run_lists_what_was_missing(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path), "CC": "", "XTRACE_TEST_CHROMIUM": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1"]
    command += ["tests/unit/arithmetic/test_constant_time.py", "tests/dashboard/test_browser.py"]
    command += ["-k", "branch_is_reported or overrun or copying"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not checked on this machine" in done.stdout
    assert "a C compiler is missing: 2 tests skipped" in done.stdout
    assert "Chromium (apt install chromium) is missing: 1 tests skipped" in done.stdout
