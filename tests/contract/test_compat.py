"""Programs written for the existing client of the HTTP contract run on ours: a test for each row of its surface.

What differs on purpose is refused with a sentence, and stands in docs/migration.md ("Programs written for the existing
client").
"""

import base64
import json
import pickle
import ssl
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from support.service import Http
from support.toy_paillier import toy_key
from xtrace_sdk import read_public_part, sync
from xtrace_sdk.errors import (
    ChunksNotFound,
    EmbeddingError,
    InputError,
    InvalidArgument,
    KeyProviderFault,
    NotFound,
    WrongKey,
)
from xtrace_sdk.integrations import XTraceIntegration
from xtrace_sdk.service.counts import ChunkCount
from xtrace_sdk.x_vec import DataLoader, Embedding, ExecutionContext, PassphraseKeyProvider, Retriever
from xtrace_server.credentials import Credentials

PUBLIC = msgspec.to_builtins(toy_key().context_data)


def encrypted(count: int) -> list[dict[str, Any]]:
    """Chunks as the existing client sends them: each with its index in base64."""
    return [
        {"chunk_content": f"c{i}", "index": [base64.b64encode(toy_key().encrypt(i)).decode()], "meta_data": {}}
        for i in range(count)
    ]


# XTraceIntegration


async def test_the_constructor_takes_the_admin_key_third(credentials: Credentials) -> None:
    given = (credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url)
    xtrace = XTraceIntegration(*given, f"{credentials.api_url}/api")
    assert [kb.id for kb in await xtrace.list_kbs()] == []
    assert await xtrace.list_exec_contexts() == []
    assert (xtrace.api_key, xtrace.admin_key) == (credentials.api_key, credentials.admin_key)
    assert (xtrace.admin_api_url, xtrace.batch_size) == (f"{credentials.api_url}/api", 500)
    assert credentials.api_key not in repr(xtrace)
    assert credentials.admin_key not in repr(xtrace)
    for name in ("api_key", "admin_key", "admin_api_url", "batch_size"):
        with pytest.raises(AttributeError):
            setattr(xtrace, name, "other")
    await xtrace.close()


async def test_close_and_init_session(xtrace: XTraceIntegration) -> None:
    xtrace.init_session()
    await xtrace.init_session()
    assert await xtrace.list_exec_contexts() == []
    await xtrace.close()
    await xtrace.aclose()


async def test_answers_of_the_control_plane_are_objects_too(xtrace: XTraceIntegration) -> None:
    kb = await xtrace.create_kb("kb", "for people")
    assert kb["id"] == kb.id
    assert kb["numberOfVectors"] == kb.get("numberOfVectors") == kb.number_of_vectors == 0
    assert kb == (await xtrace.get_kb(kb["id"])) == (await xtrace.list_kbs())[0]
    assert dict(kb)["description"] == "for people"
    assert list(kb) == ["id", "name", "description", "numberOfVectors", "createdAt", "updatedAt"] == list(kb.keys())
    assert ("createdAt" in kb, "created_at" in kb, kb.get("other", 7)) == (True, False, 7)
    with pytest.raises(KeyError, match="created_at"):
        kb["created_at"]

    made = await xtrace.create_api_key("key")
    assert made["secretKey"] == made.secret_key
    assert made["apiKey"]["firstN"] == made["secretKey"][:5]
    assert made["secretKey"] not in repr(made)
    await xtrace.set_key_permission(made["apiKey"]["hash"], kb["id"], 3)
    assert [key["hash"] for key in await xtrace.list_api_keys() if key["name"] == "key"] == [made["apiKey"]["hash"]]
    (granted,) = await xtrace.get_key_permissions(made["apiKey"]["hash"])
    assert dict(granted) == {"knowledgeBaseId": kb["id"], "permission": 3}


async def test_insert_chunks_takes_chunks_with_their_index(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(exec_context_dict=PUBLIC, context_id="ctx")
    chunks = encrypted(3)
    as_bytes = [{**chunk, "index": [base64.b64decode(c) for c in chunk["index"]]} for chunk in chunks]
    as_integers = [{**c, "index": [int.from_bytes(x, "little") for x in c["index"]]} for c in as_bytes]
    for form in (chunks, as_bytes, as_integers):
        assert len(await xtrace.insert_chunks(kb_id, form, "ctx")) == 3
    stored = await xtrace.get_chunk_by_id(range(1, 10), kb_id, projection=["index"])
    assert [chunk["index"] for chunk in stored] == [chunk["index"] for chunk in as_bytes] * 3
    with pytest.raises(InvalidArgument, match="chunk 0 has no index: put its encrypted vector under that key"):
        await xtrace.insert_chunks(kb_id, [{"chunk_content": "x"}], "ctx")
    with pytest.raises(InvalidArgument, match="an index or query is str"):  # no list of one-character ciphertexts
        await xtrace.insert_chunks(kb_id, [{"chunk_content": "x", "index": chunks[0]["index"][0]}], "ctx")


async def test_changes_of_chunks_in_their_order(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    chunks = encrypted(3)
    await xtrace.insert_chunks(kb_id, chunks, "ctx")
    await xtrace.update_chunks([chunks[2]["index"]], [{"chunk_id": 1, "chunk_content": "new"}], "ctx", kb_id)
    await xtrace.patch_chunks(kb_id, "ctx", [{"chunk_id": 2, "meta_data": {"tag1": "x"}}])
    one, two, three = await xtrace.get_chunk_by_id([1, 2, 3], kb_id)
    assert (one["chunk_content"], one["index"]) == ("new", three["index"])
    assert two["meta_data"]["tag1"] == "x"
    for call in (  # our own earlier order
        lambda: xtrace.insert_chunks(chunks, [[1]] * 3, kb_id),  # type: ignore[arg-type, list-item]
        lambda: xtrace.update_chunks([{"chunk_id": 1, "chunk_content": "x"}], [[1]], kb_id, "ctx"),  # type: ignore[list-item]
        lambda: xtrace.patch_chunks([{"chunk_id": 1}], kb_id, "ctx"),  # type: ignore[arg-type]
        lambda: xtrace.compute_hamming_distances(kb_id, "ctx", [1]),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArgument):
            await call()


async def test_searches_answer_pairs(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    await xtrace.insert_chunks(kb_id, encrypted(4), "ctx")
    query = [toy_key().encrypt(100)]
    answer = await xtrace.compute_hamming_distances(query, "ctx", kb_id, None, [2, 3])
    assert [(chunk_id, toy_key().decrypt(row[0])) for chunk_id, row in answer] == [(2, 101), (3, 102)]
    assert answer.nonces == [None, None]
    assert answer == await xtrace.compute_hamming_distances(query, "ctx", kb_id, range=(2, 3), meta_filter={})
    for batch in ("a text", "YWJj", b"abc", {"a": 1}):
        with pytest.raises(InvalidArgument, match="an index or query is"):
            await xtrace.compute_hamming_distances(batch, "ctx", kb_id)


async def test_pages_are_objects_too(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    await xtrace.insert_chunks(kb_id, encrypted(3), "ctx")
    page = await xtrace.meta_search_paginated(kb_id, "ctx", limit=2)
    assert [chunk["chunk_id"] for chunk in page["results"]] == [3, 2]
    assert page["results"] == page.results
    assert (page["total"], page["limit"], page["offset"], page["has_more"]) == (3, 2, 0, True)
    assert page["next_page_token"] == page.next_page_token


async def test_counts_are_objects_and_integers(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    await xtrace.insert_chunks(kb_id, encrypted(4), "ctx")
    everything: tuple[str, str, dict[str, Any]] = (kb_id, "ctx", {})
    dry = await xtrace.patch_chunks_by_meta(*everything, {"tag1": "x"}, dry_run=True)
    assert (dry["would_update_count"], dry.count, dry) == (4, 4, 4)
    assert (await xtrace.patch_chunks_by_meta(*everything, {"tag1": "x"}))["updated_count"] == 4
    deleted = await xtrace.delete_chunks([1, 99], kb_id)
    assert (deleted["deleted_count"], deleted.count, deleted, bool(deleted), deleted + 1) == (1, 1, 1, True, 2)
    assert (await xtrace.delete_chunks_by_meta(*everything, dry_run=True))["would_delete_count"] == 3
    gone = await xtrace.delete_chunks_by_meta(*everything)
    assert (gone["deleted_count"], gone.get("deleted_count"), gone.get("other"), "deleted_count" in gone) == (
        3,
        3,
        None,
        True,
    )
    assert not await xtrace.delete_chunks_by_meta(*everything)
    assert (dict(gone), json.dumps(gone), f"{gone}") == ({"deleted_count": 3}, "3", "3")
    with pytest.raises(KeyError, match="this call answers deleted_count"):
        gone["updated_count"]
    again = pickle.loads(pickle.dumps(gone))  # noqa: S301 - just pickled
    assert (type(again), again.name, again) == (ChunkCount, "deleted_count", 3)


async def test_bindings_and_deletions_are_true(xtrace: XTraceIntegration, kb_id: str) -> None:
    await xtrace.store_exec_context(PUBLIC, "ctx")
    assert await xtrace.register_kb_binding(kb_id, "ctx") is True
    assert await xtrace.get_ctx_for_kb(kb_id) == ["ctx"]
    assert await xtrace.get_kbs_for_ctx(ctx_id="ctx") == [kb_id]
    assert await xtrace.delete_exec_context("ctx") is True
    for call in (xtrace.get_ctx_for_kb("missing"), xtrace.get_kbs_for_ctx("ctx")):
        with pytest.raises(NotFound):  # never None, which a program could take for "bound to nothing"
            await call


# Retriever

DIM = 16


@pytest.fixture(scope="module")
def context() -> ExecutionContext:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=4)
    return ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)


def bits(number: int) -> list[int]:
    return [int(i < number) for i in range(DIM)]


async def test_searches_take_the_filter_before_the_range(
    xtrace: XTraceIntegration, kb_id: str, context: ExecutionContext
) -> None:
    loader = DataLoader(context, xtrace)
    chunks = [{"chunk_content": f"{i}", "meta_data": {"tag1": f"{i % 2}"}} for i in range(9)]
    await loader.load(chunks, [bits(i) for i in range(9)], kb_id)
    retriever = Retriever(context, xtrace)
    assert await retriever.nn_search_for_ids(bits(0), 3, kb_id, None, (4, 9)) == [4, 5, 6]
    assert await retriever.nn_search_for_ids(bits(0), 3, kb_id, {"tag1": "1"}, (3, 9), True) == ([4, 6, 8], [3, 5, 7])
    assert [ids for ids, _ in await retriever.nn_search_batch([bits(0)], 1, kb_id, {"tag1": "1"}, (3, 9))] == [[4]]
    assert [one.chunk_id for one in await retriever.search(bits(0), 1, kb_id, {"tag1": "1"}, (3, 9))] == [4]
    swapped: tuple[Any, ...] = ((4, 9), None), (None, {"tag1": "1"})  # our own earlier order
    for first, second in swapped:
        with pytest.raises(InputError):
            await retriever.nn_search_for_ids(bits(0), 3, kb_id, first, second)


async def test_retrievers_take_parallel(xtrace: XTraceIntegration, kb_id: str, context: ExecutionContext) -> None:
    await DataLoader(context, xtrace).load([{"chunk_content": "text"}], [bits(1)], kb_id)
    for retriever in (Retriever(context, xtrace, parallel=True), Retriever(context, xtrace, True)):
        assert await retriever.nn_search_for_ids(bits(1), 1, kb_id) == [1]
        with pytest.raises(InvalidArgument, match="got a text, but no model"):
            await retriever.search("text", 1, kb_id)
    for other in (3, "parallel", object()):
        with pytest.raises(InvalidArgument, match="embedding is"):
            Retriever(context, xtrace, other)  # type: ignore[arg-type]


def test_format_context_takes_texts_and_chunks() -> None:
    assert Retriever.format_context(["a", {"chunk_content": "b"}]) == "[1] a\n\n[2] b"
    with pytest.raises(InvalidArgument, match="chunk 1 has no chunk_content"):
        Retriever.format_context(["a", {"chunk_id": 1}])


# ExecutionContext


def test_contexts_are_created_with_a_passphrase_and_the_same_defaults(tmp_path: Path) -> None:
    created = ExecutionContext.create(passphrase="a passphrase", path=tmp_path / "context")
    assert (created.public_data()["type"], created.embed_len(), created.key_len()) == ("PaillierClient", 512, 1024)
    path = str(tmp_path / "context")
    assert ExecutionContext.load_from_disk("a passphrase", path) == created
    with pytest.raises(InvalidArgument, match="salt cannot be chosen, because each context generates its own"):
        ExecutionContext.create("a passphrase", "paillier", 512, 1024, b"salt")


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
def test_a_provider_goes_before_a_passphrase(tmp_path: Path) -> None:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=4)
    path = tmp_path / "context"
    created = ExecutionContext.create(
        "not used", "paillier", DIM, 256, path=path, key_provider=provider, insecure_allow_weak_parameters=True
    )
    assert ExecutionContext.load_from_disk("not used", path, provider) == created
    with pytest.raises(WrongKey):
        ExecutionContext.load_from_disk("not used", path)


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_what_is_saved_is_a_dict_and_secrets_stay_inside(
    xtrace: XTraceIntegration, context: ExecutionContext
) -> None:
    saved = context.to_dict_enc()
    assert saved == context.serialize_exec_context()
    assert set(saved) == {"type", "pk", "config", "sk", "key_provider", "wrapped_key"}
    await xtrace.store_exec_context(saved, context.id)
    assert await ExecutionContext.load_from_remote("passphrase", context.id, xtrace) == context
    assert hash(context) == hash(context.id)
    assert str(context) == f"<ExecutionContext {context.id}>"
    with pytest.raises(InvalidArgument, match="secret keys are never exported in plaintext: to_dict_enc"):
        context.to_dict_plain()


# DataLoader


async def test_loaders_take_their_keywords_and_chunks(
    xtrace: XTraceIntegration, kb_id: str, context: ExecutionContext
) -> None:
    async def vector(number: int) -> list[int]:
        return bits(number)

    loader = DataLoader(context, xtrace)
    with pytest.warns(UserWarning, match="chunk_id is ignored in chunks to load"):
        index, db = await loader.load_data_from_memory(
            chunks=[{"chunk_content": "one", "chunk_id": 77}], vectors=[vector(1)], disable_progress=True
        )
    assert await loader.dump_db(db, index, kb_id) == [1]
    texts = [{"chunk_content": "two"}, {"chunk_content": "three"}]
    index, db = await loader.load_data_from_memory_batch(texts, [vector(2), vector(3)])
    assert await loader.dump_db(db, index, kb_id) == [2, 3]
    assert await Retriever(context, xtrace).nn_search_for_ids(bits(3), 1, kb_id) == [3]


async def test_a_chunks_name_is_kept_and_the_service_does_not_see_it(
    xtrace: XTraceIntegration, http: Http, kb_id: str, context: ExecutionContext
) -> None:
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    chunks = [{"chunk_content": "one", "name": "the first"}, {"chunk_content": "one"}]
    assert (await loader.load(chunks, [bits(1), bits(2)], kb_id)).inserted == 2
    assert (await loader.load(chunks, [bits(1), bits(2)], kb_id)).known == 2
    named, unnamed = await retriever.retrieve_and_decrypt([1, 2], kb_id)
    assert (named["name"], named["chunk_content"]) == ("the first", "one")
    (found,) = [
        one for one in await retriever.meta_search({}, kb_id, ["chunk_content", "name"]) if one["chunk_id"] == 1
    ]
    assert found["name"] == "the first"
    stored = http.get(kb_id, 1, 2)
    assert "the first" not in json.dumps(stored)
    assert unnamed["name"] == stored[1]["name"]
    renamed = [{"chunk_content": "one", "name": "another"}]
    done = await loader.load(renamed, [bits(1)], kb_id)
    assert (done.inserted, await loader.superseded(done, kb_id)) == (1, [1, 2])
    with pytest.raises(InvalidArgument, match="name that is 7, expected a text"):
        await loader.load_data_from_memory([{"chunk_content": "x", "name": 7}], [bits(1)])


async def test_chunks_are_updated_from_texts_and_vectors(
    xtrace: XTraceIntegration, kb_id: str, context: ExecutionContext
) -> None:
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    await loader.load([{"chunk_content": "one"}, {"chunk_content": "two"}], [bits(1), bits(2)], kb_id)
    updates = [{"chunk_id": 2, "chunk_content": "three", "meta_data": {"tag1": "new"}}]
    await loader.update_chunks(chunk_updates=updates, vectors=[bits(3)], kb_id=kb_id)
    (found,) = await retriever.search(bits(3), 1, kb_id)
    assert (found.chunk_id, found.text, found.meta_data["tag1"]) == (2, "three", "new")
    with pytest.raises(ChunksNotFound):
        await loader.update_chunks([{**updates[0], "chunk_id": 9}], [bits(3)], kb_id)
    with pytest.raises(InvalidArgument, match="does not have a chunk_id"):
        await loader.update_chunks([{"chunk_content": "three"}], [bits(3)], kb_id)
    with pytest.raises(InvalidArgument, match="counts must match"):
        await loader.update_chunks(updates, [], kb_id)


# Embedding


async def test_the_key_is_read_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "INFERENCE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    seen: list[str | None] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers.get("authorization"))
        return httpx2.Response(401, json={"error": {"message": "wrong key a-secret-key"}})

    embedding = Embedding("openai", "model", 8, transport=httpx2.MockTransport(handle))
    with pytest.raises(InvalidArgument, match="OpenAI needs a key"):
        await embedding.embed("text")
    monkeypatch.setenv("INFERENCE_API_KEY", "a-secret-key")
    with pytest.raises(EmbeddingError) as refusal:
        await embedding.embed("text")
    assert seen == ["Bearer a-secret-key"]
    assert (refusal.value.status, refusal.value.chunk_len) == (401, 4)
    assert "a-secret-key" not in str(refusal.value) + repr(embedding)


@pytest.mark.parametrize("cls", [Embedding, sync.Embedding])
def test_embeddings_compare_and_pickle_without_their_key(cls: Any) -> None:
    embedding = cls("openai", "model", 8, base_url="http://127.0.0.1:1/v1", api_key="a-secret-key", batch_size=7)
    pickled = pickle.dumps(embedding)
    assert b"a-secret-key" not in pickled
    copy = pickle.loads(pickled)  # noqa: S301
    assert (type(copy), copy, hash(copy)) == (cls, embedding, hash(embedding))
    assert pickle.dumps(copy) == pickled
    assert len({embedding, copy, cls("openai", "model", 16, base_url="http://127.0.0.1:1/v1")}) == 2
    assert cls("ollama", "model", 8) != cls("openai", "model", 8)
    assert embedding != "model"
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(cls("openai", "model", 8, api_key="a-secret-key", verify=ssl.create_default_context()))


# Key providers


class TheirProvider:
    """A provider as programs of the existing client write them."""

    provider_id = "vault"

    def __init__(self, wrapped: bytes = bytes(32)) -> None:
        self._wrapped = wrapped

    @classmethod
    def from_wrapped(cls, wrapped: bytes) -> "TheirProvider":
        return cls(wrapped)

    def get_key(self) -> bytes:
        return bytes(byte ^ 0x55 for byte in self._wrapped)

    def wrap_key(self) -> bytes:
        return self._wrapped


class WrapsWhatItIsGiven(TheirProvider):
    def provider_id(self) -> str:  # type: ignore[override]
        return "vault"

    def wrap_key(self, key: bytes) -> bytes:  # type: ignore[override]
        return bytes(byte ^ 0x55 for byte in key)


@pytest.mark.parametrize("cls", [TheirProvider, WrapsWhatItIsGiven])
def test_key_providers_of_the_existing_protocol_are_taken(cls: type[TheirProvider], tmp_path: Path) -> None:
    path = tmp_path / "context"
    provider = cls(bytes(range(32)))
    made = ExecutionContext.create(
        key_provider=provider, embedding_length=8, key_len=256, path=path, insecure_allow_weak_parameters=True
    )
    assert read_public_part(path).key_provider == "vault"
    for opener in (provider, cls()):  # the second gets the wrapped key from the file
        opened = ExecutionContext.load_from_disk(path=path, key_provider=opener, insecure_allow_weak_encryption=True)
        assert opened.id == made.id
    made.rewrap(PassphraseKeyProvider("passphrase", insecure_log2_n=14)).rewrap(provider).save_to_disk(path)

    class Other(cls):  # type: ignore[misc, valid-type]
        from_wrapped = None

    with pytest.raises(WrongKey, match="create it from the context's wrapped_key"):
        ExecutionContext.load_from_disk(path=path, key_provider=Other(), insecure_allow_weak_encryption=True)


def test_keys_of_the_wrong_form_are_refused() -> None:
    class Short(TheirProvider):
        def get_key(self) -> bytes:
            return b"short"

    class Text(TheirProvider):
        def get_key(self) -> Any:
            return "text"

    for cls, said in ((Short, "5 bytes, expected 32"), (Text, "a str, expected bytes")):
        with pytest.raises(KeyProviderFault, match=said):
            ExecutionContext.create(key_provider=cls(), embedding_length=8)


def test_our_providers_answer_the_existing_names() -> None:
    provider = PassphraseKeyProvider("passphrase")
    assert provider.provider_id == provider.kind == "passphrase"
    for call in (provider.get_key, provider.wrap_key):
        with pytest.raises(InvalidArgument, match=r"new_key\(\) returns a new one"):
            call()
