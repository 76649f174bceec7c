"""The samples of the product specification run synchronously as well: the same lines, but for the waiting."""

import re
from pathlib import Path
from typing import Any

import pytest

from docs.examples import ROOT, sections
from xtrace_sdk import sync
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_server.credentials import Credentials

SAMPLES = sections(ROOT / "tests" / "vectors" / "spec_samples.md")
MODEL_AT_HAND = 'Embedding("wordllama", "l2_supercat", 256)'


def synchronous(code: str) -> str:
    """The sample without the waiting, and with imports from `xtrace_sdk.sync`."""
    twins = "|".join(sync.__all__)
    code = re.sub(rf"from xtrace_sdk\.\S+ import ({twins})\b", r"from xtrace_sdk.sync import \1", code)
    return code.replace("await ", "").replace("async with", "with")


def run(name: str, namespace: dict[str, Any], values: dict[str, str] | None = None) -> dict[str, Any]:
    code = synchronous(SAMPLES[name])
    for old, new in (values or {}).items():
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, name, "exec"), namespace)  # noqa: S102 - our own documents
    return namespace


@pytest.fixture(autouse=True)
def environment(credentials: Credentials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XTRACE_API_URL", credentials.api_url)
    monkeypatch.setenv("XTRACE_ADMIN_KEY", credentials.admin_key)


def test_the_samples_run_one_after_another(credentials: Credentials) -> None:
    keys = {"your_org_id": credentials.org_id, "your_api_key": credentials.api_key}
    namespace: dict[str, Any] = {}
    left = run("connecting", namespace, {**keys, "https://api.production.xtrace.ai": credentials.api_url})
    xtrace = left["xtrace"]
    assert type(xtrace) is sync.XTraceIntegration

    run("passphrase context", namespace)
    assert xtrace.list_exec_contexts() == [left["ctx"].id]
    assert type(left["ctx"]) is sync.ExecutionContext

    provider = PassphraseKeyProvider("your-secret-passphrase")
    left["execution_context"] = sync.ExecutionContext.create(provider, "paillier_lookup", 256)
    kb_id = xtrace.create_kb("your_kb").id
    values = {"your_kb_id": kb_id}
    run("loading", namespace, {**values, re.findall(r"Embedding\(.*\)", SAMPLES["loading"])[0]: MODEL_AT_HAND})
    run("querying", namespace, {**values, re.findall(r"Embedding\(.*\)", SAMPLES["querying"])[0]: MODEL_AT_HAND})
    assert (left["ids"], left["results"][0]["chunk_content"]) == ([1], "...")

    chunk = {"chunk_content": "kept", "meta_data": {"tag1": "user_123", "facets": ["draft"]}}
    vectors = left["embed"].bin_embed_many(["one", "two", "three"])
    index, db = left["data_loader"].load_data_from_memory_batch([{"chunk_content": "x"}, chunk, chunk], vectors)
    left["data_loader"].dump_db(db, index, kb_id)  # ids 2 to 4, of which the sample deletes 2
    run("chunk operations", namespace, values)
    patched = list(xtrace.iter_meta_search(kb_id, {}, left["execution_context"].id))
    assert [(one["chunk_id"], one["meta_data"]["facets"]) for one in patched] == [
        (3, ["published"]),
        (4, ["published"]),
    ]

    xtrace.delete_chunks_by_meta(kb_id, left["execution_context"].id, {})
    run("execution context management, saving", namespace)
    run("execution context management, listing", namespace)
    assert left["execution_context"].id in left["ctx_ids"]
    assert xtrace.list_exec_contexts() == [left["ctx"].id]


def test_the_context_manager(credentials: Credentials) -> None:
    keys = {"your_org_id": credentials.org_id, "your_api_key": credentials.api_key}
    left = run("async context manager", {"XTraceIntegration": sync.XTraceIntegration}, keys)
    assert type(left["xtrace"]) is sync.XTraceIntegration
