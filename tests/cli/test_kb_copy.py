"""`xtrace kb copy`, between two organisations of a real server."""

import asyncio
import json

import msgspec
import pytest

from cli.conftest import PASSPHRASE
from cli.test_context_keys import load
from cli.test_kb_verify import damage, new_context, opened
from support.service import Http, LiveService, ok
from support.terminal import Terminal
from xtrace_server.credentials import Credentials


@pytest.fixture
def terminal(xtrace: Terminal) -> Terminal:
    xtrace.environment["XTRACE_PASSPHRASE"] = PASSPHRASE
    return xtrace


@pytest.fixture
def kb_id(terminal: Terminal, credentials: Credentials) -> str:
    """A knowledge base of seven chunks under the context in `mine.json`."""
    new_context(terminal, "mine.json")
    kb_id = terminal("kb create notes").text
    asyncio.run(load(credentials, opened(terminal), kb_id))
    return kb_id


def test_a_copy_on_another_server_is_whole(terminal: Terminal, kb_id: str, live_service: LiveService) -> None:
    other = live_service.new_organisation()
    (terminal.folder / "other.json").write_bytes(msgspec.json.encode(other))
    http = Http(other)
    copy = http.new_kb()
    line = f"kb copy {kb_id} {copy} mine.json --to other.json"
    done = terminal(line)
    assert (done.status, done.out) == (0, "")
    assert done.err == "xtrace: 7 chunks were copied and verified, 0 were already there\n"
    again = terminal(line + " --json").json
    assert again.pop("seconds") > 0
    assert again == {
        "kb_id": kb_id,
        "target_kb_id": copy,
        "context_id": opened(terminal).id,
        "copied": 0,
        "known": 7,
        "bad": [],
        "taken": [],
    }
    assert ok(http.control("GET", f"/kbs/{copy}"))["numberOfVectors"] == 7
    http.close()


def test_what_was_not_copied_is_said(terminal: Terminal, kb_id: str, credentials: Credentials) -> None:
    damage(terminal, credentials, kb_id)
    copy = terminal("kb create copy").text
    done = terminal(f"kb copy {kb_id} {copy} mine.json")
    assert done.status == 1
    copied, refused = done.err.splitlines()
    assert copied == "xtrace: 5 chunks were copied and verified, 0 were already there"
    assert refused.startswith("xtrace: 2 chunks do not decrypt and were not copied (2, 5)")


def test_wrong_uses_are_one_sentence(terminal: Terminal, kb_id: str) -> None:
    terminal(f"kb copy {kb_id} {kb_id} mine.json").fails("the same knowledge base")
    terminal(f"kb copy {kb_id} unknown mine.json").fails("unknown")
    (terminal.folder / "empty.json").write_text(json.dumps({"api_url": "http://127.0.0.1:1"}))
    terminal(f"kb copy {kb_id} other mine.json --to empty.json").fails("--to", status=2)
    terminal(f"kb copy {kb_id} other mine.json --to none.json").fails("none.json")
