"""Contexts and data of another client of the wire format, end to end: loaded, searched, read, written, rewrapped."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.existing_client import PASSPHRASE, ExistingClientKey, fixture
from support.service import Http, ok
from xtrace_sdk.errors import ContentTampered, InvalidContext, InvalidRows, WeakParameters, WrongKey
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import KeyFileProvider, PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext, WeakKeyWarning, read_public_part

SCHEMES = ("paillier", "paillier_lookup")
NEW_PASSPHRASE = "new passphrase"


@pytest.fixture(params=SCHEMES)
def data(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a published client wrote; the key of `paillier_lookup` is weak."""
    return fixture(request.param)


def saved(document: dict[str, str], folder: Path) -> Path:
    """The context in a file, as the other client saves it."""
    path = folder / "exec_context"
    path.write_text(json.dumps(document))
    return path


def load(path: Path, passphrase: str = PASSPHRASE, **options: Any) -> ExecutionContext:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakKeyWarning)
        return ExecutionContext.load_from_disk(passphrase, path, **options)


def cheap(passphrase: str = NEW_PASSPHRASE) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(passphrase, insecure_log2_n=4)


def uploaded(http: Http, data: dict[str, Any]) -> str:
    """Saves the context and its chunks as the other client does, and gives the knowledge base."""
    ok(http.data("POST", "/exec_context/{org}", json={"data": data["context"], "context_id": data["context_id"]}))
    kb_id = http.new_kb()
    chunks = [
        {
            "chunk_content": row["chunk_content"],
            "index": row["index"],
            "meta_data": {"tag1": str(i)},
            "name": f"name {i}",
        }
        for i, row in enumerate(data["rows"])
    ]
    http.insert(kb_id, chunks, data["context_id"])
    return kb_id


def bits(text: str) -> list[int]:
    return [int(bit) for bit in text]


async def test_their_data_is_searched_and_read(
    http: Http, xtrace: XTraceIntegration, data: dict[str, Any], tmp_path: Path
) -> None:
    kb_id = uploaded(http, data)
    context = load(saved(data["context"], tmp_path))
    assert context.id == data["context_id"]
    retriever = Retriever(context, xtrace)
    ids, scores = await retriever.nn_search_for_ids(bits(data["query"]), 5, kb_id, include_scores=True)
    expected = sorted((row["distance"], i + 1) for i, row in enumerate(data["rows"]))
    assert list(zip(scores, ids, strict=True)) == expected
    chunks = await retriever.retrieve_and_decrypt(ids, kb_id)
    assert [chunk["chunk_content"] for chunk in chunks] == [data["rows"][i - 1]["text"] for i in ids]
    assert [chunk["name"] for chunk in chunks] == [f"name {i - 1}" for i in ids]


async def test_their_context_is_restored_from_the_service(
    http: Http, xtrace: XTraceIntegration, data: dict[str, Any]
) -> None:
    uploaded(http, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WeakKeyWarning)
        context = await ExecutionContext.load_from_remote(data["passphrase"], data["context_id"], xtrace)
    assert context.id == data["context_id"]
    await context.save_to_remote(xtrace)  # changes nothing: the public part is as it was
    assert await xtrace.get_serialized_exec_context(context.id) == data["context"]


async def test_another_context_under_the_id_is_refused(http: Http, xtrace: XTraceIntegration) -> None:
    data, other = fixture("paillier"), ExistingClientKey(512, 64)
    uploaded(http, data)
    body = {"data": other.context(), "context_id": "f" * 64}
    ok(http.data("POST", "/exec_context/{org}", json=body))
    with pytest.warns(WeakKeyWarning), pytest.raises(InvalidContext, match="a different context"):
        await ExecutionContext.load_from_remote(PASSPHRASE, "f" * 64, xtrace)


def test_a_weak_key_is_warned_of_loudly_on_load(tmp_path: Path) -> None:
    with pytest.warns(WeakKeyWarning, match=r"anyone.*xtrace context rotate"):
        ExecutionContext.load_from_disk(PASSPHRASE, saved(fixture("paillier_lookup")["context"], tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ExecutionContext.load_from_disk(PASSPHRASE, saved(fixture("paillier")["context"], tmp_path))


def test_a_wrong_passphrase_and_damaged_files_are_refused(tmp_path: Path) -> None:
    context = fixture("paillier")["context"]
    with pytest.raises(WrongKey, match="wrong"):
        load(saved(context, tmp_path), "another passphrase")
    for change, error in (
        ({"sk": context["sk"][:-8] + "AAAAAAA="}, WrongKey),
        ({"sk": "!"}, InvalidContext),
        ({"sk": ""}, WrongKey),
        ({"wrapped_key": "!"}, InvalidContext),
        ({"pk": "{}"}, InvalidContext),
        ({"config": "{}"}, InvalidContext),
        ({"type": "PaillierLookupClient"}, InvalidContext),
        ({"key_provider": "aws_kms"}, InvalidContext),
        ({"id": "f" * 64}, InvalidContext),
    ):
        with pytest.raises(error):
            load(saved(context | change, tmp_path))


async def test_new_chunks_of_a_strong_key_are_read_by_both(
    http: Http, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    data = fixture("paillier")
    kb_id = uploaded(http, data)
    context = load(saved(data["context"], tmp_path))
    loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
    vector = np.arange(64) % 2
    for _ in range(2):  # the second run finds the chunk by its name
        index, db = await loader.load_data_from_memory([{"chunk_content": "new"}], [vector])
        assert await loader.dump_db(db, index, kb_id) == [6]
    (stored,) = http.get(kb_id, 6)
    assert "nonce" not in stored
    ids, scores = await retriever.nn_search_for_ids(vector, 1, kb_id, include_scores=True)
    assert (ids, scores) == ([6], [0])
    assert (await retriever.retrieve_and_decrypt(ids, kb_id))[0]["chunk_content"] == "new"


async def test_a_weak_key_encrypts_no_new_chunks_unless_told(xtrace: XTraceIntegration, tmp_path: Path) -> None:
    path = saved(fixture("paillier_lookup")["context"], tmp_path)
    chunk, vector = [{"chunk_content": "new"}], [[0] * 512]
    with pytest.raises(WeakParameters, match="rotate"):
        await DataLoader(load(path), xtrace).load_data_from_memory(chunk, vector)
    told = load(path, insecure_allow_weak_encryption=True)
    index, _ = await DataLoader(told, xtrace).load_data_from_memory(chunk, vector)
    assert len(index) == 1


async def test_a_service_that_hands_out_the_secret_key_as_text_is_noticed(
    http: Http, xtrace: XTraceIntegration, data: dict[str, Any], tmp_path: Path
) -> None:
    kb_id = uploaded(http, data)
    retriever = Retriever(load(saved(data["context"], tmp_path)), xtrace)
    patch = {"chunk_id": 2, "chunk_content": data["context"]["sk"]}
    await xtrace.patch_chunks(kb_id, data["context_id"], [patch])
    with pytest.raises(ContentTampered, match=r"chunk 2: .*secret key"):
        await retriever.retrieve_and_decrypt([2], kb_id)


async def test_a_nonce_that_their_chunks_cannot_have_is_an_error(
    http: Http, xtrace: XTraceIntegration, data: dict[str, Any], tmp_path: Path
) -> None:
    kb_id = uploaded(http, data)
    retriever = Retriever(load(saved(data["context"], tmp_path)), xtrace)
    await xtrace.patch_chunks(kb_id, data["context_id"], [{"chunk_id": 3, "nonce": bytes(14)}])
    with pytest.raises(InvalidRows) as caught:
        await retriever.nn_search_for_ids(bits(data["query"]), 3, kb_id)
    assert caught.value.chunk_ids == [3]
    with pytest.raises(ContentTampered):
        await Retriever(load(saved(data["context"], tmp_path)), xtrace).retrieve_and_decrypt([3], kb_id)


# Rewrapping


async def test_rewrapping_writes_our_form_under_the_same_id(
    http: Http, xtrace: XTraceIntegration, data: dict[str, Any], tmp_path: Path
) -> None:
    kb_id = uploaded(http, data)
    path = saved(data["context"], tmp_path)
    context = load(path)
    assert context.rewrap(cheap()) is context
    context.save_to_disk(path)
    document = json.loads(path.read_text())
    assert document["id"] == read_public_part(path).id == data["context_id"]
    assert {name: document[name] for name in ("type", "pk", "config")} == {
        name: data["context"][name] for name in ("type", "pk", "config")
    }
    with pytest.raises(WrongKey):
        load(path)
    again = load(path, NEW_PASSPHRASE)
    assert again.id == data["context_id"]
    await again.save_to_remote(xtrace)
    stored = await xtrace.get_serialized_exec_context(again.id)
    assert {**stored, "id": again.id} == document
    retriever = Retriever(again, xtrace)
    (nearest, *_) = await retriever.nn_search_for_ids(bits(data["query"]), 3, kb_id)
    texts = await retriever.retrieve_and_decrypt([nearest], kb_id)
    assert texts[0]["chunk_content"] == data["rows"][nearest - 1]["text"]
    # The stored secret key of before is still no text, whoever kept it.
    await xtrace.patch_chunks(kb_id, again.id, [{"chunk_id": 2, "chunk_content": data["context"]["sk"]}])
    with pytest.raises(ContentTampered, match="secret key"):
        await retriever.retrieve_and_decrypt([2], kb_id)


def test_rewrapping_does_not_revoke_what_was_saved_before(tmp_path: Path) -> None:
    path = saved(fixture("paillier")["context"], tmp_path)
    before = path.read_bytes()
    context = load(path).rewrap(cheap())
    path.write_bytes(before)
    assert load(path) == context


async def test_a_context_of_ours_is_rewrapped_without_touching_a_chunk(
    http: Http, xtrace: XTraceIntegration, tmp_path: Path
) -> None:
    path, kb_id = tmp_path / "context", http.new_kb()
    context = ExecutionContext.create(
        cheap(), "paillier_lookup", 8, 256, path=path, insecure_allow_weak_parameters=True
    )
    await context.save_to_remote(xtrace)
    loader = DataLoader(context, xtrace)
    index, db = await loader.load_data_from_memory([{"chunk_content": "text"}], [[1] * 8])
    await loader.dump_db(db, index, kb_id)
    (chunk,) = http.get(kb_id, 1)

    provider = KeyFileProvider.create(tmp_path / "key")
    rewrapped = ExecutionContext.load_from_disk(NEW_PASSPHRASE, path, insecure_allow_weak_encryption=True).rewrap(
        provider
    )
    rewrapped.save_to_disk(path)
    await rewrapped.save_to_remote(xtrace)
    assert http.get(kb_id, 1) == [chunk]
    with pytest.raises(InvalidContext, match="key provider 'key_file'"):
        ExecutionContext.load_from_disk(NEW_PASSPHRASE, path, insecure_allow_weak_encryption=True)
    again = await ExecutionContext.load_from_remote(
        key_provider=provider, context_id=context.id, integration=xtrace, insecure_allow_weak_encryption=True
    )
    assert again == context
    assert (
        ExecutionContext.load_from_disk(path=path, key_provider=provider, insecure_allow_weak_encryption=True)
        == context
    )
    retriever = Retriever(again, xtrace)
    assert await retriever.nn_search_for_ids([1] * 8, 1, kb_id) == [1]
    assert (await retriever.retrieve_and_decrypt([1], kb_id))[0]["chunk_content"] == "text"
