"""Other installed distributions that own this package's modules.

The existing client of the HTTP contract also installs `xtrace_sdk`. If both are in one environment, the modules of one
of them are imported, or, if they share a folder, a mixture of both.
"""

import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from xtrace_sdk.notices import SharedModules

DISTRIBUTION: Final = "xtracedb"
"""The name under which this software is installed."""
_MODULE: Final = "xtrace_sdk/__init__.py"


def other_owners(paths: Iterable[str] | None = None) -> list[str]:
    """Returns the names of other distributions on the path (by default `sys.path`) that install `xtrace_sdk`, sorted.

    Only distributions whose names begin with `xtrace` are checked, which takes about a millisecond.
    """
    found = set()
    for path in sys.path if paths is None else paths:
        try:
            names = os.listdir(path or ".")  # noqa: PTH208 - at every import, so without an object for each file
        except OSError:  # a zip file, or a missing folder
            continue
        for name in names:
            if name.startswith("xtrace") and name.endswith(".dist-info") and _owns(Path(path, name)):
                found.add(name.partition("-")[0].replace("_", "-"))
    return sorted(found - {DISTRIBUTION})


def warn_of_other_owners() -> None:
    """Warns (`SharedModules`) if there are others, and says whose modules are in use."""
    if others := other_owners():
        named = " and ".join(others)
        warnings.warn(
            f"{named} also installs xtrace_sdk; the modules in use ({Path(__file__).parent}) are those of "
            f"{DISTRIBUTION}. Keep one: pip uninstall {' '.join(others)} {DISTRIBUTION}, then pip install "
            f"{DISTRIBUTION}",
            SharedModules,
            stacklevel=3,
        )


def _owns(folder: Path) -> bool:
    try:
        with (folder / "RECORD").open(encoding="utf-8", errors="replace") as record:
            return any(line.startswith(_MODULE) for line in record)
    except OSError:
        return False
