"""The pages on keys and on migration run from top to bottom."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, examples, run
from support.aws import CREDENTIALS, running_kms
from support.existing_client import fixture
from support.service import Http, ok
from xtrace_sdk.errors import ContextNotFound, WrongKey
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext, WeakKeyWarning
from xtrace_server.credentials import Credentials


@pytest.fixture
async def xtrace(credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.chdir(tmp_path)
    async with XTraceIntegration(credentials.org_id, credentials.api_key, api_url=credentials.api_url) as integration:
        yield integration


class KeyService:
    """What stands for a reader's own key service."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []

    def wrap(self, key: bytes) -> bytes:
        self.keys.append(key)
        return str(len(self.keys) - 1).encode()

    def unwrap(self, wrapped_key: bytes) -> bytes:
        return self.keys[int(wrapped_key)]


async def test_keys(xtrace: XTraceIntegration, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    kb_id, vector = http.new_kb(), [0, 1] * 128
    namespace: dict[str, Any] = {"xtrace": xtrace, "kb_id": kb_id, "vector": vector, "service": KeyService()}
    blocks = examples(ROOT / "docs" / "keys.md")
    with running_kms() as kms:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name.upper(), value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", kms.url)
        for name in ("key file", "AWS KMS", "recovery key", "own provider", "rewrap"):
            namespace = await run(blocks.pop(name), namespace)
    old = namespace["ctx"]
    loader = DataLoader(old, xtrace)
    index, db = await loader.load_data_from_memory([{"chunk_content": f"text {i}"} for i in range(5)], [vector] * 5)
    await loader.dump_db(db, index, kb_id)
    namespace = await run(blocks.pop("rotation"), namespace)
    namespace["ctx"] = namespace["new"]
    rotated = namespace["ids"]
    for name in ("manifest", "stolen keys"):
        namespace = await run(blocks.pop(name), namespace)
    assert blocks == {}
    assert (namespace["written"].chunks, namespace["summary"].chunks) == (5, {kb_id: 5})
    assert ExecutionContext.load_from_disk("a third long passphrase", "keys/third-context.json").predecessor is None
    assert rotated == [1, 2, 3]
    with pytest.raises(ContextNotFound):
        await xtrace.get_serialized_exec_context(old.id)
    assert ExecutionContext.load_from_disk("another long passphrase", "keys/new-context.json").predecessor is None
    with pytest.raises(WrongKey):
        ExecutionContext.load_from_disk("another long passphrase", "keys/context.json")


async def test_migration(xtrace: XTraceIntegration, http: Http, tmp_path: Path) -> None:
    data = fixture("paillier_lookup")
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    kb_id = http.new_kb()
    http.insert(kb_id, [{k: row[k] for k in ("chunk_content", "index")} for row in data["rows"]], data["context_id"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "exec_context").write_text(json.dumps(data["context"]))
    vector = [int(bit) for bit in data["query"]]
    namespace: dict[str, Any] = {"xtrace": xtrace, "kb_id": kb_id, "vector": vector}
    blocks = examples(ROOT / "docs" / "migration.md")
    passphrase = {"your-secret-passphrase": data["passphrase"]}
    with pytest.warns(WeakKeyWarning):
        namespace = await run(blocks.pop("open"), namespace, passphrase)
    nearest = sorted((row["distance"], i + 1) for i, row in enumerate(data["rows"]))[:3]
    assert namespace["ids"] == [chunk_id for _, chunk_id in nearest]
    assert [chunk["chunk_content"] for chunk in namespace["chunks"]] == [
        data["rows"][i - 1]["text"] for _, i in nearest
    ]
    namespace = await run(blocks.pop("weak"), namespace, passphrase)
    namespace = await run(blocks.pop("rotate"), namespace)
    assert blocks == {}
    assert namespace["ids"] == [chunk_id for _, chunk_id in nearest]
    assert namespace["summary"].removed_old
    assert await xtrace.list_exec_contexts() == [namespace["new"].id]
