"""What is released: its version, its parts, and that it installs."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tools import release
from tools.releasing import building

from xtrace_cli import entry
from xtrace_cli.entry import extra_of

ROOT = release.ROOT


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def test_the_changelog_belongs_to_the_version() -> None:
    release.check_ready(dry_run=True)
    assert release.changelog_entry()[0] == release.version()


def test_a_release_needs_a_date_in_the_changelog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "changelog_entry", lambda: (release.version(), "unreleased"))
    with pytest.raises(release.NotReady, match="expected the day of the release"):
        release.check_ready(dry_run=False)
    monkeypatch.setattr(release, "changelog_entry", lambda: ("0.0.9", "2026-01-01"))
    with pytest.raises(release.NotReady, match=r"newest entry of CHANGELOG\.md is for 0\.0\.9"):
        release.check_ready(dry_run=True)


def test_the_version_stands_in_no_source_file() -> None:
    version = re.compile(rf"(?<![\d.]){re.escape(release.version())}(?![\d.])")
    assert [path for path in (ROOT / "src").rglob("*.py") if version.search(path.read_text())] == []


def test_manifests_name_the_image_of_this_version() -> None:
    for overlay in (ROOT / "deploy" / "kubernetes" / "overlays").glob("*/kustomization.yaml"):
        tags = re.findall(r"newTag: (\d+\.\d+\.\d+)", overlay.read_text())
        assert set(tags) == {release.version()}, overlay


def test_the_extras_are_those_that_were_promised(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    assert {"server", "cli", "aws", "embedding", "documents", "ray", "postgresql", "otel", "all"} <= set(extras)
    (everything,) = extras["all"]
    named = set(everything.removeprefix("xtracedb[").removesuffix("]").split(","))
    assert named == set(extras) - {"all", "ray", "embedding", "mem0", "keyring"}


def test_the_client_alone_has_at_most_eight_dependencies(project: dict[str, Any]) -> None:
    assert len(project["dependencies"]) <= 8


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("typer", "cli"),
        ("dotenv", "cli"),
        ("wordllama", "cli"),
        ("sqlalchemy.ext", "server"),
        ("limits", "server"),
        ("pydantic", "server"),
        ("prometheus_client", "server"),
        ("boto3", "aws"),
        ("numpy", None),
        ("xtrace_core.nothing", None),
    ],
)
def test_a_missing_module_leads_to_its_extra(module: str, extra: str | None) -> None:
    assert extra_of(module) == extra


def test_a_command_without_its_packages_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "xtrace_cli.main", None)
    with pytest.raises(ModuleNotFoundError):  # a module of ours that is missing is a bug
        entry.main()
    monkeypatch.delitem(sys.modules, "xtrace_cli.main")
    monkeypatch.setitem(sys.modules, "typer", None)
    for name in [name for name in sys.modules if name.startswith("xtrace_cli.") and name != "xtrace_cli.entry"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as end:
        entry.main()
    assert end.value.code == 1
    sentence = "xtrace: this needs the package typer, which is not installed: pip install 'xtracedb[cli]'\n"
    assert capsys.readouterr().err == sentence


def test_a_wheel_that_lacks_something_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "xtracedb-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("xtrace_core/py.typed", "")
    with pytest.raises(building.NotTheSame, match="has no dist-info/licenses/LICENSE"):
        building.check_contents(wheel)


def test_sums_are_as_sha256sum_reads_them(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"")
    (tmp_path / "SHA256SUMS").write_text(building.checksums([tmp_path / "a.whl"]))
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.full
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_dry_run_builds_installs_everywhere_and_runs_the_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What this environment has is not to be found in the fresh ones.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command: list[str | Path] = [sys.executable, "-m", "tools.release", "--dry-run", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for way in ("server,cli", "client", "client, no compiler", "all", "uv tool", "pipx"):
        assert f"\n{way}: 6 examples of quickstart.md ran" in done.stdout
    assert "\nPython 3.11: 6 examples" in done.stdout
    assert "the same bytes twice" in done.stdout
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=tmp_path, check=True, capture_output=True)
    assert {path.suffix for path in tmp_path.iterdir()} == {".whl", ".gz", ".json", ""}
