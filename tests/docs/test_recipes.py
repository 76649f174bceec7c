"""The recipes run as they stand: each command of a page, in order, in the folder that it speaks of."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cli.conftest import PASSPHRASE
from docs.examples import ROOT, examples, run
from support.inside import Inside
from support.library import furnish, make_keys, shell_in
from support.service import LiveService
from xtrace_cli.shell.session import Session
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, write_credentials

RECIPES = ROOT / "docs" / "recipes"
NOTES = RECIPES / "search-my-notes.md"
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


def blocks(page: Path = NOTES) -> dict[str, tuple[str, str | None]]:
    """The commands of the page, and what they print where the page shows it."""
    return {match["name"]: (match["code"], match["out"]) for match in _BLOCK.finditer(page.read_text())}


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


# A service, and a notebook


@pytest.fixture
def reader_folder(tmp_path: Path, credentials: Credentials, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder as a reader has it after `xtrace serve`."""
    (tmp_path / "xtrace-data").mkdir()
    write_credentials(tmp_path / "xtrace-data" / CREDENTIALS_FILE, credentials)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_the_service_of_the_page_answers_as_it_says(reader_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = RECIPES / "fastapi-service.md"
    (code,) = examples(page).values()
    assert code == (ROOT / "examples" / "fastapi_service" / "service.py").read_text()
    monkeypatch.setenv("XTRACE_PASSPHRASE", PASSPHRASE)
    app = (await run(code, {"__name__": "service"}))["app"]
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app)) as http,
    ):
        for name, (command, shown) in blocks(page).items():
            answer = await http.send(curl(http, command))
            assert answer.status_code == 200, name
            pattern = re.escape((shown or "").strip()).replace("…", "[0-9]+")
            assert shown is None or re.fullmatch(pattern, answer.text), answer.text
        for method, path, body, status in (
            ("GET", "/notes/invoice", None, 200),
            ("GET", "/notes/cat", None, 404),
            ("PUT", "/notes/cat", {"text": ""}, 422),
            ("PUT", f"/notes/{'x' * 201}", {"text": "x"}, 422),
            ("POST", "/search", {"text": "x", "count": 51}, 422),
        ):
            assert (await http.request(method, f"http://127.0.0.1:8000{path}", json=body)).status_code == status, path


def curl(http: httpx2.AsyncClient, command: str) -> httpx2.Request:
    """The request that a line with `curl` sends."""
    words = shlex.split(command)
    assert words[0] == "curl"
    body = json.loads(words[words.index("--json") + 1]) if "--json" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
    return http.build_request(method, next(word for word in words if "://" in word), json=body)


async def test_the_cells_of_the_notebook_run_in_a_loop_that_runs(
    reader_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda _: PASSPHRASE)
    page = RECIPES / "notebook.md"
    cells = examples(page)
    assert page.read_text().count("```python") == len(cells)
    namespace: dict[str, Any] = {}
    results = {name: shown(code, namespace) for name, code in cells.items()}
    assert results["store"].count == 3
    assert "no one answered my letters" in capsys.readouterr().out
    assert sorted(results["filter"]) == ["r1", "r2"]
    assert results["count"] == {1: 1, 3: 1, 5: 1}
    assert results["vectors"].shape == (3, 3)
    assert results["vectors"].diagonal() == pytest.approx([1, 1, 1], abs=0.01)
    assert results["clean up"] is None


def shown(code: str, namespace: dict[str, Any]) -> Any:
    """Runs a cell, and returns the value of its last line, which a notebook shows."""
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), "<cell>", "exec"), namespace)  # noqa: S102 - our own documents
    if not isinstance(last, ast.Expr):
        exec(compile(ast.Module([last], []), "<cell>", "exec"), namespace)  # noqa: S102
        return None
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)  # noqa: S307
