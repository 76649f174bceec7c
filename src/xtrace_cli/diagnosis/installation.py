"""Checks the installation, the environment variables, and the free disk space."""

import os
import platform
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import xtrace_sdk
from xtrace_cli.diagnosis.findings import Finding
from xtrace_cli.options.settings import DOTENV, user_profiles
from xtrace_cli.setup.git import committable
from xtrace_sdk.distributions import DISTRIBUTION, other_owners

_GIB: Final = 1 << 30
_LITTLE_BYTES: Final = _GIB
_TOO_LITTLE_BYTES: Final = 100 << 20


def installation() -> Iterator[Finding]:
    """Checks the version, the arithmetic, and whether another distribution owns the modules."""
    from xtrace_core.arithmetic import arithmetic, describe

    yield Finding("version", "ok", f"xtrace {xtrace_sdk.__version__}, Python {platform.python_version()}")
    if arithmetic.name == "portable":
        advice = (
            "searches take several times as long: install a wheel for this machine, or a C compiler, then install again"
        )
        yield Finding("arithmetic", "warning", describe(), advice)
    else:
        yield Finding("arithmetic", "ok", describe())
    if others := other_owners():
        names = " ".join(others)
        yield Finding(
            "packages",
            "error",
            f"{' and '.join(others)} also installs xtrace_sdk; the modules in use are in {xtrace_sdk.__path__[0]}",
            f"keep one: pip uninstall {names} {DISTRIBUTION}, then pip install {DISTRIBUTION}",
        )
    else:
        yield Finding("packages", "ok", f"{DISTRIBUTION} is the only distribution of xtrace_sdk")


def variables(dotenv: Iterable[str]) -> Iterator[Finding]:
    """Finds names in the environment and `.env` that look like settings but are not."""
    from xtrace_core.environment import unknown_variables

    try:
        from xtrace_server.settings import Settings
    except ModuleNotFoundError:
        yield Finding("variables", "ok", "not checked: the server, which has settings too, is not installed")
        return
    unknown = {
        **{name: (DOTENV, near) for name, near in unknown_variables(list(dotenv), Settings.model_fields).items()},
        **{
            name: ("the environment", near)
            for name, near in unknown_variables(os.environ, Settings.model_fields).items()
        },
    }
    for name, (where, near) in unknown.items():
        advice = f"did you mean {near}?" if near else "remove it"
        yield Finding("variables", "warning", f"{name} in {where} is not a known setting", advice)
    if not unknown:
        yield Finding("variables", "ok", "every XTRACE_ variable is known")


def files(secret: Iterable[Path]) -> Iterator[Finding]:
    """Finds files with secrets that other users can read, or that could be committed."""
    paths = [path for path in (Path(DOTENV), user_profiles(), *secret) if path.is_file()]
    # Windows has no modes: a file is as private as its folder.
    modes = hasattr(os, "geteuid")
    readable = [path for path in paths if modes and stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in readable:
        yield Finding("files", "warning", f"other users of this machine can read {path}", f"chmod 600 {path}")
    for path in committable(paths):
        yield Finding("files", "warning", f"{path} could be committed to git", f"add {path.name} to .gitignore")
    if not readable and not committable(paths):
        yield Finding("files", "ok", f"{len(paths)} files with settings and keys, readable only by you")


def disk(folders: Iterable[Path]) -> Iterator[Finding]:
    """Checks the free space of the folders' file systems."""
    seen: set[int] = set()
    for folder in folders:
        place = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.is_dir())
        if (device := place.stat().st_dev) in seen:
            continue
        seen.add(device)
        free = shutil.disk_usage(place).free
        found = f"{free / _GIB:.1f} GiB are free in {place}"
        if free < _LITTLE_BYTES:
            yield Finding("disk", "error" if free < _TOO_LITTLE_BYTES else "warning", found, "make room")
        else:
            yield Finding("disk", "ok", found)
