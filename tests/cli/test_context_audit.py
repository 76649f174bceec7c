"""`xtrace context audit`: what it prints, and how it ends."""

import json
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE
from support.existing_client import fixture
from support.service import Http
from support.terminal import Terminal
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


@pytest.fixture
def mine(xtrace: Terminal) -> Path:
    """The file of a native context."""
    xtrace("context create mine.json --dimensions 64", XTRACE_PASSPHRASE=PASSPHRASE)
    return xtrace.folder / "mine.json"


@pytest.mark.long
async def test_nothing_is_found_on_a_key_of_ours_and_what_is_stored_under_it(
    xtrace: Terminal, mine: Path, http: Http
) -> None:
    context = ExecutionContext.load_from_disk(PASSPHRASE, mine)
    kb_id = http.new_kb()
    credentials = http.credentials
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as integration:
        await context.save_to_remote(integration)
        loader = DataLoader(context, integration)
        index, db = await loader.load_data_from_memory([{"chunk_content": "text"}] * 120, [[1] * 64] * 120)
        await loader.dump_db(db, index, kb_id)

    audited = xtrace(f"context audit mine.json --kb {kb_id} --seconds 0 --json").json
    assert not audited["weak"]
    (key,) = audited["keys"]
    assert (key["path"], key["weak"]) == ("mine.json", False)
    outcomes = {check["name"]: check["outcome"] for check in key["checks"]}
    assert outcomes.pop("common factors") == "not checked"  # takes several keys
    assert set(outcomes.values()) == {"ok"}
    ciphertexts = next(check["detail"] for check in key["checks"] if check["name"] == "ciphertexts")
    assert ciphertexts.startswith("120 of 120 chunks")


def test_a_weak_key_is_an_exit_status_and_its_file_needs_no_secret(xtrace: Terminal) -> None:
    context = fixture("paillier_lookup")["context"]
    public = {name: context[name] for name in ("type", "pk", "config")}
    (xtrace.folder / "theirs.json").write_text(json.dumps(public))
    audited = xtrace("context audit theirs.json --seconds 0")
    assert audited.status == 1
    lines = audited.out.splitlines()
    assert lines[:2] == ["theirs.json", "  CHECK           RESULT       DETAIL"]
    assert "  noise group     weak         n was factored: the order is small or smooth" in lines
    assert "  missing noise   not checked  takes ciphertexts: name a knowledge base" in lines
    assert audited.err == "xtrace: weak: theirs.json; rotate to a new context (xtrace context rotate)\n"


def test_a_file_that_holds_no_public_key_is_refused(xtrace: Terminal) -> None:
    (xtrace.folder / "empty.json").write_text("{}")
    xtrace("context audit empty.json").fails("the file empty.json does not contain the public part of a context")
    xtrace("context audit missing.json").fails("cannot be read")
