"""Builds what is released, and shows that it installs and works: `tools/release --dry-run`.

The source distribution is made from the files that git knows. The wheel is made from the source distribution, twice,
with equal bytes. Each way of installing gets a fresh environment, in which the examples of docs/quickstart.md run
against a server. Beside the files are their SHA-256 sums and the list of the parts (SBOM, CycloneDX).

Without `--dry-run` everything must be committed and the changelog must have a date: then it also sets the tag.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tools.releasing.building import NotTheSame, build_all, check_contents, checksums
from tools.releasing.installing import WAYS, DoesNotWork, Fresh, client_downloads, quickstart

ROOT = Path(__file__).parents[1]
CLIENT_LIMIT = 40_000_000
"""What `pip install xtracedb` may download, in bytes."""


class NotReady(Exception):
    """Something is missing for a release."""


def version() -> str:
    """The version of the project: it stands in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def changelog_entry() -> tuple[str, str]:
    """The version and the date, or `unreleased`, of the changelog's newest entry."""
    found = re.search(r"^## (\S+) \(([^)]+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise NotReady("CHANGELOG.md has no entry of the form: ## VERSION (DATE)")
    return found[1], found[2]


def check_ready(*, dry_run: bool) -> None:
    """Raises `NotReady` if the changelog belongs to another version, or, for a release, if anything is uncommitted."""
    entry, date = changelog_entry()
    if entry != version():
        raise NotReady(f"pyproject.toml says {version()}, and the newest entry of CHANGELOG.md is for {entry}")
    if dry_run:
        return
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", date):
        raise NotReady(f"CHANGELOG.md says {entry} ({date}), expected the day of the release, such as 2026-11-30")
    if changed := _git("status", "--porcelain"):
        raise NotReady(f"commit these files first:\n{changed}")


def main() -> None:
    """Runs what the command line asks for; ends with status 1 and a sentence where something does not work."""
    parser = argparse.ArgumentParser(prog="tools/release", description="Build, install everywhere, and set the tag.")
    parser.add_argument("--version", action="version", version=version(), help="say the version")
    parser.add_argument("--dry-run", action="store_true", help="set no tag")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where the files go (default: dist)")
    parser.add_argument("--build-only", action="store_true", help="install nothing")
    parser.add_argument("--here", action="store_true", help="only run the quickstart with this Python's installation")
    parser.add_argument("--only", choices=[way.name for way in WAYS], action="append", help="install in these ways")
    arguments = parser.parse_args()
    try:
        if arguments.here:
            with tempfile.TemporaryDirectory(prefix="xtrace-release-") as folder:
                _say(quickstart(ROOT, Path(sys.executable), Path(folder)))
            return
        check_ready(dry_run=arguments.dry_run)
        with tempfile.TemporaryDirectory(prefix="xtrace-release-") as folder:
            _release(Path(folder), arguments)
    except (NotReady, NotTheSame, DoesNotWork) as error:
        sys.exit(f"tools/release: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"tools/release: {error.cmd} failed:\n{(error.stdout or '')[-4000:]}{(error.stderr or '')[-4000:]}")


def _release(folder: Path, arguments: argparse.Namespace) -> None:
    os.environ["SOURCE_DATE_EPOCH"] = _git("log", "-1", "--format=%ct")
    built = build_all(ROOT, folder)
    _say(f"{built.sdist.name}: {built.sdist.stat().st_size:,} bytes")
    _say(f"{built.wheel.name}: {built.wheel.stat().st_size:,} bytes, the same bytes twice")
    _say(f"{built.plain_wheel.name}: {built.plain_wheel.stat().st_size:,} bytes, without a compiler")
    check_contents(built.wheel)
    check_contents(built.plain_wheel)
    parts = [built.sdist, built.wheel, *built.packages]
    if not arguments.build_only:
        downloads = client_downloads(built.wheel, folder / "downloads")
        _say(f"pip install xtracedb downloads {sum(downloads.values()) / 1e6:.1f} MB in {len(downloads)} files")
        if sum(downloads.values()) > CLIENT_LIMIT:
            raise NotReady(f"the client alone may download {CLIENT_LIMIT:,} bytes")
        fresh = Fresh(ROOT, folder / "installed", built)
        for way in WAYS:
            if arguments.only is None or way.name in arguments.only:
                _say(f"{way.name}: {fresh.run(way)}")
        parts.append(fresh.bill_of_materials(folder / f"xtracedb-{version()}.cdx.json"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    copies = [Path(shutil.copy(part, arguments.out)) for part in parts]
    sums = arguments.out / "SHA256SUMS"
    sums.write_text(checksums(copies), encoding="utf-8")
    _say(f"{len(copies)} files and their sums are in {arguments.out}")
    tag = f"v{version()}"
    if arguments.dry_run:
        _say(f"a dry run: the tag {tag} was not set")
        return
    _git("tag", "--annotate", tag, "--message", f"xtracedb {version()}")
    _say(f"the tag {tag} is set: git push origin {tag} starts the release")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
