"""Files that a code host and contributors look for, and the licences of what is installed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools.licences import BEGIN, PAGE, SEPARATE, installed, is_compatible

from support.deployment import program, run

ROOT = Path(__file__).parents[2]


def test_pre_commit_runs_what_scripts_check_runs() -> None:
    script = (ROOT / "scripts" / "check").read_text()
    script = re.sub(r"^if [^\n]* = --fix .*?^fi$", "", script, flags=re.DOTALL | re.MULTILINE)
    steps = [line.strip() for line in script.splitlines() if line.strip().startswith(".venv/bin/")]
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks: list[dict[str, Any]] = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == steps
    assert all(hook["language"] == "system" and hook["always_run"] and not hook["pass_filenames"] for hook in hooks)


def test_what_a_code_host_looks_for_is_there() -> None:
    for name in ("LICENSE", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md", ".github/PULL_REQUEST_TEMPLATE.md"):
        assert (ROOT / name).read_text().strip(), name


@pytest.mark.full
def test_dependabot_follows_its_schema() -> None:
    checker = program("check-jsonschema", "check-jsonschema")
    run(checker, "--builtin-schema", "vendor.dependabot", ROOT / ".github" / "dependabot.yml")


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_issue_forms_ask_for_nothing_secret(form: str) -> None:
    loaded = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert {"name", "description", "body"} <= set(loaded)
    assert any(field.get("validations", {}).get("required") for field in loaded["body"])
    assert "SECURITY.md" in str(loaded) or form != "bug"


def direct() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    return {re.split(r"[\[>=<; ]", one)[0].replace("_", "-") for one in wanted} - {"xtracedb"}


def test_every_direct_dependency_is_listed() -> None:
    listed = re.findall(r"^\| (\S+) \| .+ \|$", PAGE.read_text().partition(BEGIN)[2], re.MULTILINE)
    assert direct() <= set(listed), "run scripts/licences"


def test_every_licence_is_compatible() -> None:
    # Those of what is installed here, the indirect dependencies too; which ones those are changes with their versions.
    found = installed()
    assert set(SEPARATE) <= direct() <= set(found)
    assert {name: licence for name, licence in found.items() if not is_compatible(licence)} == {}


@pytest.mark.parametrize(
    ("licence", "compatible"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("AGPL-3.0-only", False),
        ("unknown", False),
    ],
)
def test_which_licences_are_compatible(licence: str, compatible: bool) -> None:
    assert is_compatible(licence) is compatible
