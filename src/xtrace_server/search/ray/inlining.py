"""The setting of Ray without which large answers take a detour.

An answer beyond the limit is stored on the holder's node, located, copied to the server's node, and read from there.
Ray ignores the environment variable of a setting that it does not have: if a version renames it, answers are right but
slow, and nothing says so. So the server looks for the name in Ray, whose Python interface does not list its settings.
"""

import mmap
from importlib.util import find_spec
from pathlib import Path
from typing import Final

LARGEST_REPLY: Final = "RAY_max_direct_call_object_size"
"""The variable for the largest answer (bytes) that is part of the reply to its call, by default 100 KB."""
ENVIRONMENT: Final = {LARGEST_REPLY: str(8 * 2**20)}
"""The environment of a holder."""


def ray_reads(variable: str) -> bool:
    """Returns whether the installed Ray reads this environment variable."""
    spec = find_spec("ray")
    if spec is None or spec.origin is None:
        return False
    return any(_contains(module, variable.encode()) for module in Path(spec.origin).parent.glob("_raylet.*"))


def _contains(file: Path, text: bytes) -> bool:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return mapped.find(text + b"\0") >= 0
