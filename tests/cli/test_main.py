"""The command as a whole: what it imports, its versions, its form of wrong use."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from support.terminal import Terminal

HEAVY = ("xtrace_server", "numpy", "gmpy2", "sqlalchemy", "fastapi", "wordllama", "semantic_text_splitter", "rich")


@pytest.mark.parametrize("line", [["--help"], ["version"], ["context", "create", "--help"]])
def test_a_quick_command_imports_nothing_heavy(line: list[str]) -> None:
    script = (
        f"import sys; sys.argv[1:] = {line!r}\n"
        "from xtrace_cli.main import main\n"
        "try: main()\n"
        f"finally: print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_the_version_and_what_it_runs_on(shell: Terminal) -> None:
    assert shell("version").text == f"xtrace {version('xtracedb')}"
    first, *foundations = shell("version --verbose").text.splitlines()
    assert first == f"xtrace {version('xtracedb')}"
    known = dict(line.split(maxsplit=1) for line in foundations)
    assert list(known) == ["Python", "gmpy2", "cryptography", "SQLite", "arithmetic"]
    assert known["Python"].startswith(sys.version.split()[0])
    assert known["cryptography"] == version("cryptography")
    assert "GMP" in known["gmpy2"]


@pytest.mark.parametrize("line", ["nothing", "kb nothing", "version --nothing", "serve --port seven"])
def test_wrong_use_keeps_the_usual_form(shell: Terminal, line: str) -> None:
    refused = shell(line)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("Usage: xtrace")
    assert "\nError: " in refused.err
    assert "Traceback" not in refused.err


def test_without_arguments_there_is_help(shell: Terminal) -> None:
    assert "Commands:" in shell("").out + shell("").err
    assert "Commands:" in shell("kb").out + shell("kb").err
