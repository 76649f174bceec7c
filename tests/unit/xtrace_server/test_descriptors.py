"""How many files the server may open."""

import resource
import subprocess
import sys

import pytest

from xtrace_server.descriptors import OWN

SCRIPT = """
import logging, resource, sys
from xtrace_server.descriptors import raise_descriptor_limit
from xtrace_server.settings import Settings
logging.basicConfig(stream=sys.stdout, format="%(message)s")
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_descriptor_limit(Settings(max_connections=1000))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "warning"),
    [
        (256, 4096, 1000 + OWN, None),
        (2048, 4096, 2048, None),
        (256, 512, 512, f"enough for {512 - OWN} connections"),
    ],
)
def test_the_limit_is_raised_as_far_as_it_is_needed(soft: int, hard: int, raised: int, warning: str | None) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip(f"this machine allows fewer than {hard} open files")
    command = [sys.executable, "-c", SCRIPT, str(soft), str(hard)]
    *lines, now = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert int(now) == raised
    assert bool(lines) == (warning is not None)
    assert warning is None or warning in lines[0]
