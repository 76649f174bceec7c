"""What an observer of the network and a thief of the disk find of texts, values, vectors, queries and keys: nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recording_proxy import found, recording_proxy
from service import running_service
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

PASSPHRASE = "Zirkelquadratur-Passphrase"
TEXTS = ["Quetzalcoatl owes the bank eleven million", "Xylophones ünd Äpfel are kept in the vault"]
QUESTION = "Who is in debt, Nebuchadnezzar?"
VISIBLE = "a tag that everybody may see"
PRIVATE: dict[str, Any] = {"tag2": "Chimborazo the customer", "facets": ["Popocatépetl affair", "Kilimanjaro affair"]}
ASKED = "Annapurna, whom nobody knows"
PATCHED = "Aconcagua since Tuesday"


@pytest.mark.parametrize("scheme", ["paillier", "paillier_lookup"])
async def test_no_plaintext_vector_query_or_key_is_on_the_wire_or_on_the_disk(scheme: str, tmp_path: Path) -> None:
    provider = PassphraseKeyProvider(PASSPHRASE, insecure_log2_n=4)
    context = ExecutionContext.create(provider, scheme, 256, private_metadata=["tag2", "facets"])
    embedding = Embedding("wordllama", "l2_supercat", 256)
    with running_service(tmp_path / "data") as service:
        credentials = service.first_credentials
        async with (
            recording_proxy(service.url) as recording,
            XTraceIntegration(
                credentials.org_id, credentials.api_key, recording.url, admin_key=credentials.admin_key
            ) as xtrace,
        ):
            kb_id = (await xtrace.create_kb("kb")).id
            await context.save_to_remote(xtrace)
            collection = [{"chunk_content": text, "meta_data": {"tag1": VISIBLE, **PRIVATE}} for text in TEXTS]
            loader, retriever = DataLoader(context, xtrace), Retriever(context, xtrace)
            await loader.load(collection, embedding, kb_id)
            filter_ = {"tag2": {"$ne": ASKED}, "facets": {"$any": [ASKED, PRIVATE["facets"][1]]}}
            ids = await retriever.nn_search_for_ids(embedding.bin_embed(QUESTION), 2, kb_id, meta_filter=filter_)
            chunks = await retriever.retrieve_and_decrypt(ids, kb_id)
            await loader.patch_chunks_by_meta(filter_, {"tag2": PATCHED}, kb_id)
            patched = await retriever.meta_search({"tag2": PATCHED}, kb_id)
    assert sorted(chunk["chunk_content"] for chunk in chunks) == sorted(TEXTS)
    assert [chunk["meta_data"] for chunk in patched] == [{"tag1": VISIBLE, **PRIVATE, "tag2": PATCHED}] * 2

    disk = b"".join(path.read_bytes() for path in sorted((tmp_path / "data").iterdir()) if path.is_file())
    wire = bytes(recording.data)
    for record in (disk, wire):
        # The search would find what is there: the visible tag is.
        assert found({"tag": VISIBLE.encode()}, record) == ["tag (raw)", "tag (json)"]
        assert found(await marks(context, embedding), record) == []


async def marks(context: ExecutionContext, embedding: Embedding) -> dict[str, bytes]:
    """Everything that must stay with the client, as bytes to look for."""
    secret = {}
    for number, text in enumerate((*TEXTS, QUESTION)):
        secret[f"text {number}"] = text.encode()
        secret |= {f"word {word}": word.encode() for word in text.split() if len(word) > 7}
        secret[f"vector {number}"] = np.packbits(await embedding.bin_embed(text)).tobytes()
        secret[f"floats {number}"] = (await embedding.embed(text))[:8].tobytes()
    for text in (PRIVATE["tag2"], *PRIVATE["facets"], ASKED, PATCHED):
        secret[f"private {text}"] = text.encode()
        secret |= {f"private word {word}": word.encode() for word in text.split() if len(word) > 7}
    for name, value in context.homomorphic.secrets().items():
        secret[name] = bytes.fromhex(value if len(value) % 2 == 0 else "0" + value)
        secret[f"{name} in decimal"] = str(int(value, 16)).encode()
        secret[f"{name} in hexadecimal"] = value.encode()
    return secret | {"passphrase": PASSPHRASE.encode()}
