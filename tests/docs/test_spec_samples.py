"""The samples of the product specification run as printed, given other ids, keys and a model that is at hand."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, run, sections
from support.aws import CREDENTIALS, running_kms
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import AWSKMSKeyProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

SAMPLES = sections(ROOT / "tests" / "vectors" / "spec_samples.md")
MODEL_AT_HAND = 'Embedding("wordllama", "l2_supercat", 256)'
DOWNLOADED_MODELS = (
    'Embedding("sentence_transformer", "mixedbread-ai/mxbai-embed-large-v1", 512)',
    'Embedding("ollama", "mxbai-embed-large", 1024)',
)


@pytest.fixture(autouse=True)
def environment(credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTRACE_API_URL", credentials.api_url)
    monkeypatch.setenv("XTRACE_ADMIN_KEY", credentials.admin_key)


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(credentials.org_id, credentials.api_key) as integration:
        yield integration


@pytest.fixture(scope="module")
def execution_context() -> ExecutionContext:
    return ExecutionContext.create(PassphraseKeyProvider("your-secret-passphrase"), "paillier_lookup", 256)


@pytest.fixture
async def namespace(xtrace: XTraceIntegration, execution_context: ExecutionContext) -> dict[str, Any]:
    """The names that the samples take from each other, and a knowledge base."""
    kb = await xtrace.create_kb("your_kb")
    return {
        "xtrace": xtrace,
        "execution_context": execution_context,
        "ExecutionContext": ExecutionContext,
        "AWSKMSKeyProvider": AWSKMSKeyProvider,
        "kb_id": kb.id,
    }


async def load(namespace: dict[str, Any], tags: list[dict[str, Any]]) -> None:
    collection = [{"chunk_content": f"text {i}", "meta_data": tag} for i, tag in enumerate(tags)]
    loader = DataLoader(namespace["execution_context"], namespace["xtrace"])
    index, db = await loader.load_data_from_memory(collection, [[i % 2] * 256 for i in range(len(tags))])
    await loader.dump_db(db, index=index, kb_id=namespace["kb_id"])


async def test_passphrase_based_context(namespace: dict[str, Any]) -> None:
    left = await run(SAMPLES["passphrase context"], namespace)
    assert (left["ctx"].embed_len(), left["ctx"].key_len()) == (512, 1024)


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS as the environment describes it to boto3: a KMS server that has the samples' key."""
    with running_kms() as server:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name.upper(), value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield


async def test_aws_kms_based_context(namespace: dict[str, Any], kms: None) -> None:
    # The sample restores what it has not saved: that is done where its first half ends.
    creating, restore, restoring = SAMPLES["AWS KMS context"].partition("# Restore")
    left = await run(creating, namespace)
    created = left["ctx"]
    created.save_to_disk("data/exec_context")
    left = await run(restore + restoring, left)
    assert left["ctx"] == created
    assert left["ctx"] is not created

    left["ctx_id"] = await created.save_to_remote(left["xtrace"])
    left = await run(SAMPLES["execution context management, restoring with KMS"], left | {"execution_context": None})
    assert left["execution_context"] == created


async def test_connecting(credentials: Credentials) -> None:
    values = {
        "your_org_id": credentials.org_id,
        "your_api_key": credentials.api_key,
        "https://api.production.xtrace.ai": credentials.api_url,
    }
    left = await run(SAMPLES["connecting"], {}, values)
    assert await left["xtrace"].list_exec_contexts() == []
    await left["xtrace"].aclose()


async def test_async_context_manager(credentials: Credentials) -> None:
    values = {"your_org_id": credentials.org_id, "your_api_key": credentials.api_key}
    left = await run(SAMPLES["async context manager"], {"XTraceIntegration": XTraceIntegration}, values)
    assert isinstance(left["xtrace"], XTraceIntegration)


async def test_loading_and_querying(namespace: dict[str, Any]) -> None:
    values = {"your_kb_id": namespace["kb_id"]}
    loaded = await run(SAMPLES["loading"], namespace, {**values, DOWNLOADED_MODELS[0]: MODEL_AT_HAND})
    assert len(loaded["index"]) == len(loaded["db"]) == 1
    left = await run(SAMPLES["querying"], loaded, {**values, DOWNLOADED_MODELS[1]: MODEL_AT_HAND})
    assert left["ids"] == [1]
    assert left["results"][0]["chunk_content"] == "..."
    assert left["results"][0]["meta_data"] == {
        "tag1": "user_123",
        "tag2": "my-project",
        "tag5": "doc1.txt",
        "facets": ["finance", "q1"],
    }


async def test_chunk_operations(namespace: dict[str, Any]) -> None:
    tags: list[dict[str, Any]] = [
        {"tag1": "user_1"},
        {"tag1": "user_1"},
        {"tag1": "user_123", "tag2": "old-project"},
        {"tag1": "user_123", "facets": ["draft", "x"]},
        {"tag1": "user_123", "facets": ["final"]},
    ]
    await load(namespace, tags)
    left = await run(SAMPLES["chunk operations"], namespace, {"your_kb_id": namespace["kb_id"]})
    chunks = await left["xtrace"].meta_search(namespace["kb_id"], {}, left["execution_context"].id)
    assert [(chunk["chunk_id"], chunk["meta_data"].get("facets")) for chunk in chunks] == [
        (4, ["published"]),
        (5, ["final"]),
    ]


async def test_execution_context_management(namespace: dict[str, Any]) -> None:
    context_id = namespace["execution_context"].id
    left = await run(SAMPLES["execution context management, saving"], namespace)
    assert left["execution_context"].id == left["ctx_id"] == context_id
    left = await run(SAMPLES["execution context management, listing"], left)
    assert left["ctx_ids"] == [context_id]
    assert await left["xtrace"].list_exec_contexts() == []
