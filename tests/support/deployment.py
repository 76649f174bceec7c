"""The files in deploy/, and the programs that check them."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from support.missing_tools import skip_without
from xtrace_core.environment import unknown_variables
from xtrace_server.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"


def program(name: str, package: str = "") -> str:
    """The path of a program beside this Python, or anywhere. Skips the test, which says what is missing, without it."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    skip_without(f"{name} ({package})" if package else name, found)
    assert found
    return found


def run(*command: str | Path, **options: Any) -> str:
    """What a program printed that succeeded."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def check_variables(names: set[str]) -> None:
    """Asserts that the server reads every variable: an unknown one would stop its start."""
    assert unknown_variables(names, Settings.model_fields) == {}


@dataclass(frozen=True)
class Image:
    """What the last stage of the Dockerfile says about a container."""

    environment: dict[str, str]
    user: str
    entrypoint: list[str]
    command: list[str]
    healthcheck: list[str]


def image() -> Image:
    """Reads deploy/Dockerfile."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE))
    last = re.split(r"^FROM ", text, flags=re.MULTILINE)[-1]

    def listed(pattern: str) -> list[str]:
        (found,) = re.findall(pattern, last, re.MULTILINE)
        return msgspec.json.decode(found, type=list[str])

    (environment,) = re.findall(r"^ENV (.*)$", last, re.MULTILINE)
    (user,) = re.findall(r"^USER (.*)$", last, re.MULTILINE)
    return Image(
        dict(pair.split("=", 1) for pair in environment.split()),
        user,
        listed(r"^ENTRYPOINT (\[.*\])"),
        listed(r"^CMD (\[.*\])"),
        listed(r"^HEALTHCHECK .* CMD (\[.*\])"),
    )
