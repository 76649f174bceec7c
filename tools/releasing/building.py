"""Source distribution and wheels, from the files that git knows."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

IN_THE_WHEEL: Final = (
    "dist-info/licenses/LICENSE",
    "xtrace_core/py.typed",
    "xtrace_sdk/py.typed",
    "xtrace_server/py.typed",
    "xtrace_cli/py.typed",
    "xtrace_sdk/x_vec/keys/bip39/english.txt",
    "xtrace_server/storage/migrations/env.py",
    "xtrace_server/storage/migrations/versions/",
    "xtrace_server/dashboard/templates/",
    "xtrace_server/dashboard/static/",
)
"""What is not code of the four packages, or is easily forgotten."""


class NotTheSame(Exception):
    """A wheel lacks something, or two builds differ."""


@dataclass(frozen=True)
class Built:
    """What was built."""

    sdist: Path
    wheel: Path
    plain_wheel: Path
    """What `pip install` makes where there is no compiler."""
    packages: Sequence[Path]
    """The wheels of packages/."""


def build_all(root: Path, folder: Path) -> Built:
    """Builds everything into the folder. Raises `NotTheSame` if two builds of the wheel differ."""
    tree = export(root, folder / "tree")
    sdist = _only(build(tree, folder / "sdist", "--sdist"))
    wheel = _only(build(sdist, folder / "wheel", "--wheel"))
    again = _only(build(sdist, folder / "again", "--wheel"))
    if wheel.read_bytes() != again.read_bytes():
        raise NotTheSame(f"two builds of {wheel.name} differ in {', '.join(_differences(wheel, again))}")
    plain = _only(build(sdist, folder / "plain", "--wheel", environment={"CC": "/nonexistent/cc"}))
    packages: list[Path] = []
    for package in sorted((tree / "packages").iterdir()):
        if "[project]" in (package / "pyproject.toml").read_text(encoding="utf-8"):
            packages += build(package, folder / package.name, "--wheel")
    return Built(sdist, wheel, plain, packages)


def export(root: Path, folder: Path) -> Path:
    """Copies the files that git knows, and new ones that it does not ignore, as they are in the working tree."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (root / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    return folder


def build(source: Path, out: Path, *options: str, environment: Mapping[str, str] | None = None) -> list[Path]:
    """Builds a folder or a source distribution in an environment of its own; returns the files."""
    command = [sys.executable, "-m", "uv", "build", "--quiet", *options, "--out-dir", str(out), str(source)]
    changed = {**os.environ, **(environment or {})}
    subprocess.run(command, env=changed, capture_output=True, text=True, check=True)
    return sorted(path for path in out.iterdir() if path.suffix in (".whl", ".gz"))


def check_contents(wheel: Path) -> None:
    """Raises `NotTheSame` if the wheel lacks its licence, its types, a template or a migration, or has too much."""
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in IN_THE_WHEEL:
        if not any(wanted in name for name in names):
            raise NotTheSame(f"{wheel.name} has no {wanted}")
    tops = {name.partition("/")[0] for name in names}
    ours = {"xtrace_core", "xtrace_sdk", "xtrace_server", "xtrace_cli"}
    if extra := sorted(top for top in tops - ours if not top.endswith(".dist-info")):
        raise NotTheSame(f"{wheel.name} also has {', '.join(extra)}")


def checksums(files: Iterable[Path]) -> str:
    """The SHA-256 sums, as `sha256sum --check` reads them."""
    return "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(files))


def _differences(one: Path, other: Path) -> list[str]:
    first, second = zipfile.ZipFile(one), zipfile.ZipFile(other)
    common = set(first.namelist()) & set(second.namelist())
    apart = set(first.namelist()) ^ set(second.namelist())
    return sorted(apart | {name for name in common if first.read(name) != second.read(name)}) or ["dates or modes"]


def _only(paths: Sequence[Path]) -> Path:
    (path,) = paths
    return path
