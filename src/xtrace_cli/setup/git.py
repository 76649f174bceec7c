"""Whether files with secrets could be committed by mistake."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path


def committable(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths in a git work tree that are not ignored there; none if git is not installed."""
    git = shutil.which("git")
    return [] if git is None else [path for path in paths if path.exists() and _is_committable(git, path.resolve())]


def _is_committable(git: str, path: Path) -> bool:
    # The work tree may be someone else's: do not run a file system monitor that its settings may name.
    command = [git, "-c", "core.fsmonitor=false", "check-ignore", "--quiet", "--", path.name]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    return done.returncode == 1  # 0: ignored, 128: not a work tree
