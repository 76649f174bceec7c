"""`xtrace context rewrap` and `xtrace context rotate`, with files, prompts, AWS KMS and a real server."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.aws import ALIAS, CREDENTIALS, running_kms
from support.existing_client import fixture
from support.service import Http, ok
from support.terminal import Terminal
from xtrace_sdk.errors import WrongKey
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import KeyFileProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

NEW_PASSPHRASE = "a new horse on a new battery"


@pytest.fixture
def terminal(xtrace: Terminal) -> Any:
    """A shell that knows both passphrases; neither is ever printed."""
    xtrace.environment |= {"XTRACE_PASSPHRASE": PASSPHRASE, "XTRACE_NEW_PASSPHRASE": NEW_PASSPHRASE}
    yield xtrace
    assert all(NEW_PASSPHRASE not in text for text in xtrace.seen)


def opened(path: Path, passphrase: str) -> ExecutionContext:
    return ExecutionContext.load_from_disk(passphrase, path)


def test_rewrap_to_another_passphrase(terminal: Terminal) -> None:
    path = terminal.folder / "mine.json"
    context_id = terminal("context create mine.json --dimensions 8").text
    done = terminal("context rewrap mine.json")
    assert (done.status, done.out) == (0, "")
    assert "older copies still open with the old one" in done.err
    assert opened(path, NEW_PASSPHRASE).id == context_id
    with pytest.raises(WrongKey):
        opened(path, PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    terminal("context rewrap mine.json").fails("wrong")
    (terminal.folder / "new").write_text(PASSPHRASE + "\n")
    back = terminal("context rewrap mine.json --new-passphrase-file new --json", XTRACE_PASSPHRASE=NEW_PASSPHRASE)
    assert back.json == {"context_id": context_id, "key_provider": "passphrase"}
    assert opened(path, PASSPHRASE).id == context_id


def test_rewrap_asks_without_an_echo(terminal: Terminal) -> None:
    terminal("context create mine.json --dimensions 8")
    terminal.environment = {}
    asked = terminal.watched("context rewrap mine.json", PASSPHRASE, NEW_PASSPHRASE, NEW_PASSPHRASE)
    assert asked.status == 0, asked
    assert asked.err.startswith("Passphrase: \nNew passphrase: \nConfirm passphrase: \n")
    before = (terminal.folder / "mine.json").read_bytes()
    assert "differ" in terminal.watched("context rewrap mine.json", NEW_PASSPHRASE, "one", "two").err
    terminal("context rewrap mine.json").fails("XTRACE_PASSPHRASE", status=2)
    terminal("context rewrap mine.json", XTRACE_PASSPHRASE=NEW_PASSPHRASE).fails("XTRACE_NEW_PASSPHRASE", status=2)
    assert (terminal.folder / "mine.json").read_bytes() == before


def test_rewrap_to_a_key_file_and_back(terminal: Terminal) -> None:
    path = terminal.folder / "mine.json"
    context_id = terminal("context create mine.json --dimensions 8").text
    assert terminal("context rewrap mine.json --new-key-file key --json").json["key_provider"] == "key_file"
    provider = KeyFileProvider(terminal.folder / "key")
    assert ExecutionContext.load_from_disk(path=path, key_provider=provider).id == context_id
    terminal("context rewrap mine.json").fails("--key-file", status=2)
    assert terminal("context save mine.json --key-file key").text == context_id
    assert terminal(f"context restore {context_id} copy.json --key-file key").text == context_id
    assert (terminal.folder / "copy.json").read_bytes() == path.read_bytes()
    terminal("context rewrap mine.json --key-file missing").fails("cannot be read")
    both = terminal("context rewrap mine.json --key-file key --new-key-file other --new-kms-key k")
    both.fails("give one of", status=2)
    assert terminal("context rewrap mine.json --key-file key").status == 0
    assert opened(path, NEW_PASSPHRASE).id == context_id


def test_rewrap_to_aws_kms_and_back(terminal: Terminal) -> None:
    context_id = terminal("context create mine.json --dimensions 8").text
    with running_kms() as kms:
        terminal.environment |= {name.upper(): value for name, value in CREDENTIALS.items()}
        terminal.environment |= {"AWS_ENDPOINT_URL": kms.url, "AWS_DEFAULT_REGION": "eu-central-1"}
        assert terminal(f"context rewrap mine.json --new-kms-key {ALIAS} --json").json["key_provider"] == "aws_kms"
        terminal("context rewrap mine.json").fails("--kms-key", status=2)
        terminal("context rewrap mine.json --kms-key alias/none").fails("AWS KMS")
        assert terminal(f"context rewrap mine.json --kms-key {ALIAS}").status == 0
    assert opened(terminal.folder / "mine.json", NEW_PASSPHRASE).id == context_id


def test_an_encryption_context_is_bound_to_the_aws_kms_key(terminal: Terminal) -> None:
    context_id = terminal("context create mine.json --dimensions 8").text
    with running_kms() as kms:
        terminal.environment |= {name.upper(): value for name, value in CREDENTIALS.items()}
        terminal.environment |= {"AWS_ENDPOINT_URL": kms.url, "AWS_DEFAULT_REGION": "eu-central-1"}
        bound = "--kms-encryption-context team=search --kms-encryption-context stage=a=b"
        new = bound.replace("--kms", "--new-kms")
        assert terminal(f"context rewrap mine.json --new-kms-key {ALIAS} {new}").status == 0
        terminal(f"context save mine.json --kms-key {ALIAS}").fails("AWS KMS")
        assert terminal(f"context save mine.json --kms-key {ALIAS} {bound}").text == context_id
        assert terminal(f"context restore {context_id} copy.json --kms-key {ALIAS} {bound}").text == context_id
        for wrong in ("team", "=search"):
            refused = terminal(f"context save mine.json --kms-key {ALIAS} --kms-encryption-context {wrong}")
            refused.fails("expected NAME=VALUE", status=2)
        assert terminal(f"context rewrap mine.json --kms-key {ALIAS} {bound}").status == 0
    assert opened(terminal.folder / "mine.json", NEW_PASSPHRASE).id == context_id


def test_rewrap_of_another_clients_context(terminal: Terminal) -> None:
    data = fixture("paillier_lookup")
    (terminal.folder / "theirs.json").write_text(json.dumps(data["context"]))
    done = terminal("context rewrap theirs.json", XTRACE_PASSPHRASE=data["passphrase"])
    assert done.status == 0
    assert done.err.count("xtrace: the key of the context ") == 1
    assert terminal("context show theirs.json --json").json["context_id"] == data["context_id"]


# Rotation


async def load(credentials: Credentials, context: ExecutionContext, kb_id: str, count: int = 7) -> list[int]:
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
        loader = DataLoader(context, xtrace)
        index, db = await loader.load_data_from_memory(
            [{"chunk_content": f"text {i}"} for i in range(count)], [[i % 2] * 8 for i in range(count)]
        )
        return await loader.dump_db(db, index, kb_id)


async def texts(credentials: Credentials, context: ExecutionContext, kb_id: str, ids: list[int]) -> list[str]:
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as xtrace:
        chunks = await Retriever(context, xtrace).retrieve_and_decrypt(ids, kb_id)
        return [chunk["chunk_content"] for chunk in chunks]


async def test_rotate_from_a_dry_run_to_the_removal(terminal: Terminal, http: Http, credentials: Credentials) -> None:
    old_id = terminal("context create old.json --dimensions 8").text
    kb_id = http.new_kb()
    ids = await load(credentials, opened(terminal.folder / "old.json", PASSPHRASE), kb_id)

    dry = terminal("context rotate old.json new.json --dry-run --json").json
    assert (dry["chunks"], dry["dry_run"], dry["context_id"]) == ({kb_id: 7}, True, None)
    assert not (terminal.folder / "new.json").exists()
    assert http.data("GET", "/exec_context/{org}").json() == {"contexts": [old_id]}

    moved = terminal("context rotate old.json new.json").text.splitlines()
    assert moved[0] == f"{kb_id}  7 chunks moved"
    assert moved[1].startswith("in all")
    assert stat.S_IMODE((terminal.folder / "new.json").stat().st_mode) == 0o600
    new = opened(terminal.folder / "new.json", NEW_PASSPHRASE)
    assert new.predecessor is not None
    assert await texts(credentials, new, kb_id, ids) == [f"text {i}" for i in range(7)]

    refused = terminal("context rotate old.json another.json")
    refused.fails(f"is being rotated into {new.id}")
    assert "--instead-of" in refused.err
    assert not (terminal.folder / "another.json").exists()
    terminal("context rotate old.json new.json --remove-old").fails("--yes", status=2)
    done = terminal("context rotate old.json new.json --remove-old --yes --json").json
    assert (done["removed_old"], done["chunks"], done["context_id"]) == (True, {kb_id: 0}, new.id)
    assert http.data("GET", "/exec_context/{org}").json() == {"contexts": [new.id]}
    assert opened(terminal.folder / "new.json", NEW_PASSPHRASE).predecessor is None
    again = terminal("context rotate old.json new.json --remove-old --yes --json").json
    assert (again["chunks"], again["finished"], again["removed_old"]) == ({}, True, True)
    terminal("context create other.json --dimensions 8")
    terminal("context rotate other.json new.json").fails("does not replace the context in")
    terminal("context rotate old.json other.json", XTRACE_NEW_PASSPHRASE=PASSPHRASE).fails(
        "not replace another context"
    )


async def test_finish_says_what_remains_to_be_done(terminal: Terminal, http: Http, credentials: Credentials) -> None:
    terminal("context create old.json --dimensions 8")
    kb_id = http.new_kb()
    await load(credentials, opened(terminal.folder / "old.json", PASSPHRASE), kb_id)
    moved = terminal("context rotate old.json new.json")
    assert "the rotation is not finished: chunks under the old keys are still accepted" in moved.err
    terminal("context rotate old.json new.json --finish").fails("--yes", status=2)
    refused = terminal.watched("context rotate old.json new.json --finish", "n")
    assert "stop accepting chunks under the old keys? [y/N] " in refused.err
    assert opened(terminal.folder / "new.json", NEW_PASSPHRASE).predecessor is not None
    done = terminal("context rotate old.json new.json --finish --yes --json")
    assert (done.json["finished"], done.json["removed_old"], done.json["left"]) == (True, False, {})
    assert "replace every copy that was saved before" in done.err
    assert opened(terminal.folder / "new.json", NEW_PASSPHRASE).predecessor is None
    assert len(http.data("GET", "/exec_context/{org}").json()["contexts"]) == 2


async def test_what_a_manifest_lists_moves_and_nothing_else(
    terminal: Terminal, http: Http, credentials: Credentials
) -> None:
    terminal("context create old.json --dimensions 8")
    old = opened(terminal.folder / "old.json", PASSPHRASE)
    kb_id = http.new_kb()
    terminal(f"kb manifest {kb_id} old.json list").fails("nothing was ever stored")
    await load(credentials, old, kb_id, 5)
    terminal.environment = {}
    written = terminal(f"kb manifest {kb_id} old.json list")
    assert written.text.startswith("chunks   5\nSHA-256  ")
    assert terminal(f"kb manifest {kb_id} old.json list --json").json["digest"] in written.text
    terminal.environment = {"XTRACE_PASSPHRASE": PASSPHRASE, "XTRACE_NEW_PASSPHRASE": NEW_PASSPHRASE}
    await load(credentials, old, kb_id, 7)  # two more, perhaps a thief's
    moved = terminal("context rotate old.json new.json --manifest list")
    assert moved.text.splitlines()[0] == f"{kb_id}  5 chunks moved, 2 left: unlisted"
    terminal("context rotate old.json new.json").fails("--manifest")
    verified = terminal(f"kb verify {kb_id} new.json --manifest list", XTRACE_PASSPHRASE=NEW_PASSPHRASE)
    assert verified.out == "CHUNK  PROBLEMS\n6      unlisted\n7      unlisted\n"
    terminal("context rotate old.json new.json --manifest list --remove-old --yes").fails("delete them")
    deleting = f"kb verify {kb_id} new.json --manifest list --delete --yes"
    assert terminal(deleting, XTRACE_PASSPHRASE=NEW_PASSPHRASE).status == 0
    done = terminal("context rotate old.json new.json --manifest list --remove-old --yes --json").json
    assert (done["finished"], done["left"]) == (True, {})
    (terminal.folder / "list").write_text("other")
    terminal("context rotate old.json another.json --manifest list").fails("not a manifest")


async def test_rotate_other_keys_and_one_knowledge_base(
    terminal: Terminal, http: Http, credentials: Credentials
) -> None:
    terminal("context create old.json --dimensions 8 --scheme paillier")
    terminal("context create stranger.json --dimensions 8")
    old = opened(terminal.folder / "old.json", PASSPHRASE)
    kbs = [http.new_kb(), http.new_kb()]
    for kb_id in kbs:
        await load(credentials, old, kb_id, 2)
    line = f"context rotate old.json new.json --kb {kbs[1]} --scheme paillier_lookup --key-len 1026 --new-key-file key"
    assert terminal(f"{line} --json").json["chunks"] == {kbs[1]: 2}
    shown = terminal("context show new.json --json").json
    assert (shown["scheme"], shown["key_len"], shown["key_provider"]) == ("paillier_lookup", 1026, "key_file")
    terminal("context rotate stranger.json new.json --new-key-file key").fails("does not replace the context in")
    terminal(f"{line} --remove-old --yes").fails("omit --kb", status=2)
    terminal(f"{line} --finish --yes").fails("omit --kb", status=2)
    provider = KeyFileProvider(terminal.folder / "key")
    new = ExecutionContext.load_from_disk(path=terminal.folder / "new.json", key_provider=provider)
    for kb_id in kbs:
        assert await texts(credentials, new, kb_id, [1, 2]) == ["text 0", "text 1"]


def test_rotate_asks_for_both_passphrases_without_an_echo(terminal: Terminal, http: Http) -> None:
    terminal("context create old.json --dimensions 8")
    terminal("context save old.json")
    terminal.environment = {}
    asked = terminal.watched("context rotate old.json new.json", PASSPHRASE, NEW_PASSPHRASE, NEW_PASSPHRASE)
    assert asked.err.startswith("Passphrase: \nNew passphrase: \nConfirm passphrase: \n")
    assert asked.status == 0
    again = terminal.watched("context rotate old.json new.json", NEW_PASSPHRASE)
    assert again.status == 0
    assert again.err.startswith("New passphrase: \n")
    assert "again" not in again.err
    wrong = terminal.watched("context rotate old.json new.json", WRONG_PASSPHRASE)
    assert wrong.status == 1
    assert opened(terminal.folder / "new.json", NEW_PASSPHRASE).embed_len() == 8


def test_another_clients_weak_context_is_rotated_away(terminal: Terminal, http: Http) -> None:
    data = fixture("paillier_lookup")
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    kb_id = http.new_kb()
    rows = [{"chunk_content": row["chunk_content"], "index": row["index"]} for row in data["rows"]]
    http.insert(kb_id, rows, data["context_id"])
    (terminal.folder / "theirs.json").write_text(json.dumps(data["context"]))
    terminal.environment["XTRACE_PASSPHRASE"] = data["passphrase"]
    done = terminal("context rotate theirs.json new.json --remove-old --yes --json")
    assert done.json["chunks"] == {kb_id: 5}
    assert done.err.count("is weak") == 1
    final = terminal("context show new.json --json").json
    assert http.data("GET", "/exec_context/{org}").json() == {"contexts": [final["context_id"]]}
