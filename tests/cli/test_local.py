"""`XTRACE_LOCAL_INDEX` and `xtrace local`: searching on this machine, and what that keeps here."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from support.terminal import Terminal
from xtrace_cli import progress
from xtrace_cli.shell.session import Session
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.local.local_index import REPLICA_CHUNKS


def test_a_search_keeps_an_index_which_clear_removes(library: Terminal, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert library("local status --json", **cache).json == {
        "folder": str(tmp_path / "xtrace" / "local"),
        "indexes": 0,
        "bytes": 0,
    }
    for is_first in (True, False):
        found = library("search 'Which animal is napping?' -k 1 --timing", XTRACE_LOCAL_INDEX="", **cache)
        assert ("now keeps a sealed index" in found.err) == is_first
        assert "The cat is asleep" in found.text
        assert "in the local index; open" in found.err
        assert "synchronise" in found.err
    kept = library("local status --json", **cache).json
    assert kept["indexes"] == 1
    assert kept["bytes"] > 10_000
    assert "cleared 1 local indexes" in library("local clear", **cache).err
    assert library("local status --json", **cache).json["indexes"] == 0
    assert json.loads(library("local clear --json", **cache).out) == {"cleared": 0, "bytes": 0}


def test_verify_compares_the_index_with_the_service(library: Terminal, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    for line, local_index in (("local verify --json", ""), ("local verify --json", "codes")):
        found = library(line, XTRACE_LOCAL_INDEX=local_index, **cache).json
        assert found["chunks"] > 3
        assert {found[name] for name in ("missing", "surplus", "wrong")} == {0}
    assert "differ 0" in library("local verify", XTRACE_LOCAL_INDEX="", **cache).err
    library("local verify", XTRACE_LOCAL_INDEX="off", **cache).fails("XTRACE_LOCAL_INDEX=off", status=2)


def test_a_shared_index_is_what_another_machine_begins_with(library: Terminal, tmp_path: Path) -> None:
    first, second = ({"XDG_CACHE_HOME": str(tmp_path / one), "XTRACE_LOCAL_INDEX": "codes"} for one in ("a", "b"))
    shared = library("local share --json", **first).json
    assert shared["segments"] == 1
    assert "sent 0 segments" in library("local share", **second).err
    found = library("local verify --all --json", **second).json
    assert found["chunks"] == found["contents"] == shared["chunks"]
    assert found["wrong"] == 0
    library("local share", XTRACE_LOCAL_INDEX="off").fails("no local index that could be shared", status=2)


def test_an_unknown_kind_is_refused(library: Terminal) -> None:
    library("search cat", XTRACE_LOCAL_INDEX="everything").fails(
        "expected auto, small, codes, replica or off", status=2
    )


def test_a_folder_that_cannot_be_written_leaves_the_search_to_the_service(library: Terminal, tmp_path: Path) -> None:
    (tmp_path / "xtrace").write_text("not a folder")
    found = library("search cat -k 1 --timing", XTRACE_LOCAL_INDEX="", XDG_CACHE_HOME=str(tmp_path))
    assert found.status == 0
    assert "on the service" in found.err


class Screen(io.StringIO):
    """Text that a terminal shows."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(library: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[io.StringIO], int]]:
    """Searches in this process, without an index at first, and returns the exit status. Chunks arrive two at a time."""
    monkeypatch.chdir(library.folder)
    folder = {"XTRACE_LOCAL_INDEX": "", "XDG_CACHE_HOME": str(tmp_path)}
    for name, value in {**library.environment, **folder, "COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("xtrace_sdk.x_vec.local.synchronising.CHUNKS_AT_ONCE", 2)
    monkeypatch.setattr(progress, "_QUICK_S", -1.0)
    with Session() as session:

        def search(err: io.StringIO) -> int:
            with redirect_stdout(io.StringIO()), redirect_stderr(err):
                return session.run("search cat -k 1")

        yield search


def test_the_first_synchronisation_shows_on_a_terminal_what_has_arrived(run: Callable[[io.StringIO], int]) -> None:
    screen = Screen()
    assert run(screen) == 0
    assert "Synchronising" in screen.getvalue()
    assert "5/5" in screen.getvalue()
    screen = Screen()
    assert run(screen) == 0
    assert "Synchronising" not in screen.getvalue()


def test_what_arrived_before_ctrl_c_is_not_fetched_again(
    run: Callable[[io.StringIO], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, after = XTraceIntegration.local_changes, list[int]()

    async def interrupted(self: XTraceIntegration, *arguments: Any) -> Any:
        after.append(arguments[3])
        if after == [REPLICA_CHUNKS, 0, 2, 4]:  # the first one asks whether the knowledge base is small
            raise KeyboardInterrupt
        return await changes(self, *arguments)

    monkeypatch.setattr(XTraceIntegration, "local_changes", interrupted)
    printed = io.StringIO()
    assert run(printed) == 130
    assert printed.getvalue() == (
        "xtrace: 4 chunks are in the local index of this machine, and the next search fetches the others\n"
        "xtrace: stopped\n"
    )
    after.clear()
    assert run(printed) == 0
    assert after == [4]
