"""The recipes run as they stand: each command of a page, in order, in the folder that it speaks of."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE
from docs.examples import ROOT
from support.inside import Inside
from support.library import furnish, make_keys, shell_in
from support.service import LiveService
from xtrace_cli.shell.session import Session

NOTES = ROOT / "docs" / "recipes" / "search-my-notes.md"
_BLOCK = re.compile(r"<!-- run: (?P<name>[^>]+) -->\n```sh\n(?P<code>.*?)```\n(?:```text\n(?P<out>.*?)```)?", re.DOTALL)
FILES = {
    "notes/lease.md": "# Lease\n\nWith the owner of the house.\n\n## Rent\n\n"
    "The rent of 900 euros is due on the third of each month.\n",
    "notes/cat.txt": "The cat is asleep on the warm radiator.\n",
    "notes/shopping.csv": "what,price\ngreen tea,4.50\ncoffee,7\n",
    "notes/old.txt": "Call the plumber.\n",
    "notes/photo.jpg": "not a text",
    "work/acme.md": "The invoice of March is open.\n",
}


def blocks() -> dict[str, tuple[str, str | None]]:
    """The commands of the page, and what they print where the page shows it."""
    return {match["name"]: (match["code"], match["out"]) for match in _BLOCK.finditer(NOTES.read_text())}


def make_files(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def same(printed: str, shown: str | None) -> bool:
    return shown is None or printed.strip() == shown.strip()


@pytest.fixture
def inside(tmp_path: Path, live_service: LiveService) -> Iterator[Inside]:
    """A folder as `xtrace init` leaves it."""
    (tmp_path / "made").mkdir()
    make_keys(tmp_path / "made", PASSPHRASE)
    furnish(tmp_path, live_service.new_organisation(), tmp_path / "made", [])
    make_files(tmp_path)
    terminal = shell_in(tmp_path)
    with pytest.MonkeyPatch.context() as patch, Session() as session:
        patch.chdir(tmp_path)
        for name, value in terminal.environment.items():
            patch.setenv(name, value)
        yield Inside(session, terminal)


def test_every_command_of_the_page_is_run() -> None:
    text = NOTES.read_text()
    assert text.count("```sh") == len(blocks())


def test_the_commands_do_what_the_page_says(inside: Inside) -> None:
    for name, (code, shown) in blocks().items():
        if name == "set up":
            continue
        for line in code.splitlines():
            words = shlex.split(line)
            if words[0] == "rm":
                Path(words[1]).unlink()
                continue
            assert words[0] == "xtrace"
            done = inside(line.removeprefix("xtrace "))
            assert done.status == 0, done
            assert same(done.out, shown), done.out
    assert "acme.md" in inside("search 'open invoices' -k 1").text
    assert "plumber" not in inside("search 'call the plumber' -k 9").text


@pytest.mark.full
def test_the_page_runs_in_a_shell_from_its_first_line(tmp_path: Path) -> None:
    make_files(tmp_path)
    scripts = Path(sys.executable).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")},
        "PATH": f"{scripts}:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "COLUMNS": "80",
    }
    script = "\n".join(f"echo '<{name}>'\n{code}" for name, (code, _) in blocks().items())
    done = subprocess.run(
        ["bash", "-e", "-c", f"trap 'xtrace local-server stop >&2' EXIT\n{script}\necho '<end>'"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name, (_, shown) in blocks().items():
        printed = done.stdout.partition(f"<{name}>\n")[2]
        assert same(re.split(r"^<[a-z ]+>$", printed, maxsplit=1, flags=re.MULTILINE)[0], shown), printed
