"""`XTRACE_LOCAL_INDEX` and `xtrace local`: searching on this machine, and what that keeps here."""

import json
from pathlib import Path

from support.terminal import Terminal


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


def test_an_unknown_kind_is_refused(library: Terminal) -> None:
    library("search cat", XTRACE_LOCAL_INDEX="everything").fails(
        "expected auto, small, codes, replica or off", status=2
    )


def test_a_folder_that_cannot_be_written_leaves_the_search_to_the_service(library: Terminal, tmp_path: Path) -> None:
    (tmp_path / "xtrace").write_text("not a folder")
    found = library("search cat -k 1 --timing", XTRACE_LOCAL_INDEX="", XDG_CACHE_HOME=str(tmp_path))
    assert found.status == 0
    assert "on the service" in found.err
