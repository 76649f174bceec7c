"""Writes docs/licences.md: what an installation brings along, and under which licence. `scripts/licences` runs it."""

import re
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

PAGE: Final = Path(__file__).parents[1] / "docs" / "licences.md"
BEGIN: Final = "<!-- made by scripts/licences from here -->"
SEPARATE: Final[Mapping[str, str]] = {"ray": "ray", "sentence-transformers": "embedding", "mem0ai": "mem0"}
"""Large or exclusive packages, with their extras: installed on request, and listed without what they bring."""
_THEIR_LICENCE: Final = "Apache-2.0"
COMPATIBLE: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "LGPL-3.0-only",
        "LGPL-3.0-or-later",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    }
)
"""Licences under which a package may be used, unchanged and installed by itself, beside a program under Apache-2.0."""
_NAMES: Final[Mapping[str, str]] = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache-2.0 license": "Apache-2.0",
    "bsd license": "BSD",
    "3-clause bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages without an SPDX expression call theirs."""


def installed() -> dict[str, str]:
    """Every distribution that `xtracedb` with all its extras brings, as far as it is installed, and its licence."""
    found: dict[str, str] = dict.fromkeys(SEPARATE, _THEIR_LICENCE)
    waiting = [("xtracedb", frozenset(metadata.metadata("xtracedb").get_all("Provides-Extra") or ()))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            requirements = metadata.requires(name) or []
            licence = licence_of(name)
        except metadata.PackageNotFoundError:
            continue
        if name != "xtracedb":
            found[name] = licence
        for requirement in map(Requirement, requirements):
            environments = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                wanted = re.sub(r"[-_.]+", "-", requirement.name).lower()
                if wanted not in SEPARATE:
                    waiting.append((wanted, frozenset(requirement.extras)))
    return dict(sorted(found.items()))


def licence_of(name: str) -> str:
    """The licence of an installed distribution as an SPDX expression, or in its own words."""
    fields = metadata.metadata(name)
    classifiers = [one.rpartition(" :: ")[2] for one in fields.get_all("Classifier") or () if one.startswith("License")]
    said = [*(fields.get_all("License-Expression") or ()), *classifiers, *(fields.get_all("License") or ())]
    for text in filter(None, said):
        one = text.strip().partition("\n")[0]  # some give the licence's whole text
        if len(one) < 80 and one not in ("UNKNOWN", "OSI Approved", "Other/Proprietary License"):
            return _NAMES.get(one.lower(), one)
    return "unknown"


def is_compatible(licence: str) -> bool:
    """Whether one of the licences that may be chosen is compatible, where all that apply together are."""
    choices = re.split(r"\s+OR\s+", licence.replace("(", "").replace(")", ""))
    return any(all(one in COMPATIBLE for one in re.split(r"\s+AND\s+", choice)) for choice in choices)


def page(before: str) -> str:
    """The page with the table of today."""
    rows = "".join(f"| {name} | {licence} |\n" for name, licence in installed().items())
    return f"{before.partition(BEGIN)[0]}{BEGIN}\n\n| package | licence |\n|---|---|\n{rows}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.exit(0)
