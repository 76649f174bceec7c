"""The workflows in .github/: two linters find nothing, actions are pinned, and what they run is there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.deployment import program, run

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def workflow(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return loaded


def test_zizmor_finds_nothing() -> None:
    run(program("zizmor", "zizmor"), "--offline", "--no-progress", "--quiet", ROOT / ".github")


@pytest.mark.full
def test_workflows_fit_their_schema() -> None:
    checker = program("check-jsonschema", "check-jsonschema")
    run(checker, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_pinned_and_what_is_run_exists(file: Path) -> None:
    text = file.read_text()
    for used in re.findall(r"uses: (.+)", text):
        assert PINNED.fullmatch(used), used
    for job in yaml.safe_load(text)["jobs"].values():
        for step in job["steps"]:
            for path in re.findall(r"(?<![\w/.])((?:scripts|tools|\.ci)/[\w./-]+)", step.get("run", "")):
                assert (ROOT / path).exists(), path
            for module in re.findall(r"python -m (tools\.\w+)", step.get("run", "")):
                assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


def test_wheels_of_every_platform_are_built() -> None:
    systems = workflow("release")["jobs"]["wheels"]["strategy"]["matrix"]["system"]
    assert {system.split("-")[0] for system in systems} == {"ubuntu", "macos", "windows"}
    assert any(system.endswith("-arm") for system in systems)
    text = (ROOT / "pyproject.toml").read_text()
    for image in ("manylinux-x86_64", "manylinux-aarch64", "musllinux-x86_64", "musllinux-aarch64"):
        assert f"{image}-image" in text


def test_every_supported_python_is_tested() -> None:
    jobs = workflow("ci")["jobs"]
    listed = re.findall(r"Programming Language :: Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert {"3.11", *jobs["pythons"]["strategy"]["matrix"]["python"]} == set(listed)


def test_only_the_job_that_publishes_is_trusted_by_the_index() -> None:
    jobs = workflow("release")["jobs"]
    assert jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert jobs["attest"]["permissions"] == {"contents": "read", "id-token": "write", "attestations": "write"}
    for name in ("source", "wheels"):
        assert jobs[name]["permissions"] == {"contents": "read"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
