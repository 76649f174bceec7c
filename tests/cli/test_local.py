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
    for _ in range(2):
        found = library("search 'Which animal is napping?' -k 1 --timing", XTRACE_LOCAL_INDEX="auto", **cache)
        assert "The cat is asleep" in found.text
        assert "in the local index; open" in found.err
        assert "synchronise" in found.err
    kept = library("local status --json", **cache).json
    assert kept["indexes"] == 1
    assert kept["bytes"] > 10_000
    assert "cleared 1 local indexes" in library("local clear", **cache).err
    assert library("local status --json", **cache).json["indexes"] == 0
    assert json.loads(library("local clear --json", **cache).out) == {"cleared": 0, "bytes": 0}


def test_an_unknown_kind_is_refused(library: Terminal) -> None:
    refused = library("search cat", XTRACE_LOCAL_INDEX="everything")
    assert refused.status != 0
    assert "expected auto, codes, replica, or none" in refused.err
