"""`xtrace kb seal`, with a real server."""

import asyncio
import inspect

import pytest

from cli.conftest import PASSPHRASE
from cli.test_context_keys import load
from support.terminal import Terminal
from xtrace_cli.commands.kb_seal import seal
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.stored.sealing import ERASE_AFTER_DAYS, FIRST_ROWS
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

COUNT = 1100


@pytest.fixture
def terminal(xtrace: Terminal) -> Terminal:
    xtrace.environment["XTRACE_PASSPHRASE"] = PASSPHRASE
    return xtrace


def stored(terminal: Terminal, credentials: Credentials, scheme: str, count: int) -> str:
    """A knowledge base with chunks under the context in `mine.json`."""
    context = ExecutionContext.create(
        PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=14), scheme, 8, path=terminal.folder / "mine.json"
    )
    kb_id = terminal("kb create notes").text
    asyncio.run(load(credentials, context, kb_id, count))
    return kb_id


def test_chunks_are_sealed_and_outdated_blocks_are_removed(terminal: Terminal, credentials: Credentials) -> None:
    kb_id = stored(terminal, credentials, "lattice", COUNT)
    few = terminal(f"kb seal {kb_id} mine.json")
    assert (few.status, few.out) == (0, "")
    assert few.err == "xtrace: sealed 0 chunks (new blocks: 0); 1100 chunks are in no block\n"
    done = terminal(f"kb seal {kb_id} mine.json --at-least 1000 --json").json
    assert done.pop("context_id")
    assert done == {"kb_id": kb_id, "blocks": 1, "sealed": 1024, "removed": 0, "left": 76}
    again = terminal(f"kb seal {kb_id} mine.json --at-least 1000 --erase-after 0")
    assert again.err == "xtrace: sealed 0 chunks (new blocks: 0); 76 chunks are in no block\n"


def test_a_scheme_without_blocks_is_named(terminal: Terminal, credentials: Credentials) -> None:
    kb_id = stored(terminal, credentials, "paillier_lookup", 1)
    terminal(f"kb seal {kb_id} mine.json").fails("which does not have blocks")


def test_the_defaults_are_those_of_the_sdk() -> None:
    # The command line does not import the SDK before a command needs it.
    given = {name: one.default for name, one in inspect.signature(seal).parameters.items()}
    assert (given["at_least"], given["erase_after"]) == (FIRST_ROWS, ERASE_AFTER_DAYS)
