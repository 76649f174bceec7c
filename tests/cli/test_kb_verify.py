"""`xtrace kb verify`, with a real server and chunks that somebody damaged."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from cli.conftest import PASSPHRASE
from cli.test_context_keys import load
from support.by_blocks import sealed
from support.databases import execute
from support.service import LiveService, running_service
from support.terminal import Terminal
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials


@pytest.fixture(scope="module")
def live_service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server of this module's own, because its tests damage the database."""
    with running_service(tmp_path_factory.mktemp("damaged") / "data") as service:
        yield service


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


def new_context(terminal: Terminal, name: str) -> None:
    """A context in a file, under a passphrase that takes no time to check."""
    provider = PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=14)
    ExecutionContext.create(provider, "paillier_lookup", 8, path=terminal.folder / name)


def opened(terminal: Terminal) -> ExecutionContext:
    return ExecutionContext.load_from_disk(PASSPHRASE, terminal.folder / "mine.json")


def damage(terminal: Terminal, credentials: Credentials, kb_id: str) -> None:
    """Chunk 2 loses its nonce, chunk 5 gets the content of chunk 4."""

    async def patch() -> None:
        async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
            (other,) = await xtrace.get_chunk_by_id([4], kb_id)
            patches = [{"chunk_id": 2, "nonce": None}, {"chunk_id": 5, "chunk_content": other["chunk_content"]}]
            await xtrace.patch_chunks(kb_id, opened(terminal).id, patches)

    asyncio.run(patch())


def test_a_sound_knowledge_base_is_said_to_be_one(terminal: Terminal, kb_id: str) -> None:
    done = terminal(f"kb verify {kb_id} mine.json")
    assert (done.status, done.out) == (0, "")
    assert done.err == "xtrace: 7 chunks were read, 0 are bad, 0 were deleted\n"
    found = terminal(f"kb verify {kb_id} mine.json --json").json
    assert found.pop("seconds") > 0
    assert found == {
        "kb_id": kb_id,
        "context_id": opened(terminal).id,
        "chunks": 7,
        "bad": [],
        "more": 0,
        "unsteady": [],
        "deleted": [],
        "blocks": {"checked": 0, "recomputed": 0, "bad": [], "missing": [], "unchecked": ""},
    }


def test_bad_chunks_are_listed_and_the_status_is_1(terminal: Terminal, kb_id: str, credentials: Credentials) -> None:
    damage(terminal, credentials, kb_id)
    plain = terminal(f"kb verify {kb_id} mine.json")
    assert plain.status == 1
    assert plain.out == "CHUNK  PROBLEMS\n2      vector, content\n5      content\n"
    assert plain.err == (
        "xtrace: 7 chunks were read, 2 are bad, 0 were deleted\n"
        "xtrace: 2 bad chunks remain: replace them from their source, or delete them with --delete\n"
    )
    as_json = terminal(f"kb verify {kb_id} mine.json --json")
    assert as_json.status == 1
    assert '"problems": ["vector", "content"]' in " ".join(as_json.out.split()).replace("[ ", "[").replace(" ]", "]")


def test_bad_blocks_are_listed_with_the_command_that_replaces_them(
    terminal: Terminal, credentials: Credentials, live_service: LiveService
) -> None:
    provider = PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=14)
    context = ExecutionContext.create(provider, "lattice", 8, path=terminal.folder / "mine.json")
    kb_id = terminal("kb create notes").text

    async def seal() -> list[int]:
        async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
            return [await sealed(context, xtrace, kb_id, ids) for ids in ([1, 2, 3], [4, 5])]

    asyncio.run(load(credentials, context, kb_id))
    bad, good = asyncio.run(seal())
    sound = terminal(f"kb verify {kb_id} mine.json")
    assert (sound.status, sound.out) == (0, "")
    assert "2 blocks were checked, 2 of them made again from their chunks and compared, 0 are bad" in sound.err
    execute(live_service.folder, "UPDATE block SET header = ? WHERE pk = ?", bytes(112), bad)
    execute(live_service.folder, "UPDATE block SET live = ? WHERE pk = ?", b"\x01" + bytes(127), good)
    found = terminal(f"kb verify {kb_id} mine.json")
    assert (found.status, found.out) == (1, f"BLOCK{' ' * (len(str(bad)) - 3)}PROBLEMS\n{bad}  parts\n")
    assert f"1 blocks are bad: replace them with xtrace kb seal --remake {bad}; " in found.err
    assert "searches by blocks leave out 1 stored chunks (5): the service contradicts itself" in found.err
    assert terminal(f"kb verify {kb_id} mine.json --json").status == 1
    terminal(f"kb seal {kb_id} mine.json --remake {bad} --remake {good}")
    assert terminal(f"kb verify {kb_id} mine.json --json").json["blocks"]["checked"] == 0


def test_they_are_deleted_if_somebody_says_so(terminal: Terminal, kb_id: str, credentials: Credentials) -> None:
    damage(terminal, credentials, kb_id)
    terminal(f"kb verify {kb_id} mine.json --delete").fails(
        "cannot ask for confirmation when not interactive: add --yes", status=2
    )
    refused = terminal.watched(f"kb verify {kb_id} mine.json --delete", "n")
    assert refused.status == 1
    assert "Delete all 2 bad chunks listed above, of 7? [y/N] " in refused.err
    assert refused.out.endswith("5      content\n")
    assert terminal("kb list --json").json[0]["numberOfVectors"] == 7
    done = terminal.watched(f"kb verify {kb_id} mine.json --delete", "y")
    assert done.status == 0
    assert "7 chunks were read, 2 are bad, 2 were deleted" in done.err
    assert terminal(f"kb verify {kb_id} mine.json --json").json["chunks"] == 5


def test_deleting_needs_no_person_with_yes(terminal: Terminal, kb_id: str, credentials: Credentials) -> None:
    damage(terminal, credentials, kb_id)
    done = terminal(f"kb verify {kb_id} mine.json --delete --yes --json").json
    assert done["deleted"] == [2, 5]
    assert [bad["chunk_id"] for bad in done["bad"]] == [2, 5]


def test_all_that_would_be_deleted_is_shown_before_the_question(
    terminal: Terminal, kb_id: str, credentials: Credentials
) -> None:
    damage(terminal, credentials, kb_id)
    asked = terminal.watched(f"kb verify {kb_id} mine.json --delete --json", "n")
    assert asked.err.index("bad chunks: 2 (vector, content); 5 (content)") < asked.err.index("Delete all 2 bad chunks")
    assert (asked.status, json.loads(asked.out)["deleted"]) == (1, [])


def test_a_person_sees_how_far_it_is(terminal: Terminal, kb_id: str) -> None:
    assert "7/7" in terminal.watched(f"kb verify {kb_id} mine.json").err


def test_what_cannot_be_is_one_sentence(terminal: Terminal, kb_id: str) -> None:
    terminal("kb verify nowhere mine.json").fails("knowledge base")
    terminal(f"kb verify {kb_id} missing.json").fails("cannot be read")
    new_context(terminal, "other.json")
    terminal(f"kb verify {kb_id} other.json").fails("is it the right one?")
