"""The memory of another process, as its host's operator can read it at any time."""

import re
from pathlib import Path
from typing import IO

import pytest

_REGION = re.compile(r"(?P<start>[0-9a-f]+)-(?P<end>[0-9a-f]+) r(?P<writable>[w-])\S* \S+ \S+ \S+ *(?P<name>.*)")


def memory_of(pid: int) -> bytes:
    """Everything in the memory of a child of this process but what it only reads from files.

    Skips the test where the operating system shows no process's memory to its parent.
    """
    parts = []
    try:
        regions = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in regions:
                region = _REGION.match(line)
                if not region or not (region["writable"] == "w" or not region["name"] or region["name"] == "[heap]"):
                    continue
                parts.append(_region(memory, int(region["start"], 16), int(region["end"], 16)))
    except FileNotFoundError:
        pytest.skip("this operating system has no /proc: the memory of a process cannot be read")
    except PermissionError:
        pytest.skip("this system does not let a process read the memory of its child (kernel.yama.ptrace_scope)")
    return b"".join(parts)


def _region(memory: IO[bytes], start: int, end: int) -> bytes:
    data = bytearray()
    memory.seek(start)
    while len(data) < end - start:
        try:
            part = memory.read(min(1 << 24, end - start - len(data)))
        except OSError:  # taken back since, or a page that nobody can read
            break
        if not part:
            break
        data += part
    return bytes(data)
