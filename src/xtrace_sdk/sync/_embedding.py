"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.inference.embedding`: change that, and run the script."""

import os
import ssl
from collections.abc import Sequence
from typing import Any

import httpx2

from xtrace_sdk.arguments import Positive, Seconds
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.sync._background import Twin, close_when_dropped, run
from xtrace_sdk.x_vec.inference import embedding as core
from xtrace_sdk.x_vec.inference.embedding import Bits, Floats
from xtrace_sdk.x_vec.inference.model import EmbeddingModel


class Embedding(Twin[core.Embedding]):
    """A model that embeds texts, truncated to `dim` dimensions.

    Many models expect a prompt before a query, and a different one or none before a stored text (a *passage*). `embed`
    and `bin_embed` embed passages, `embed_query` and `bin_embed_query` embed queries. A text that is too long for the
    model raises `TextRefused`; it is never truncated.

    The texts of one call of `embed_many` and `bin_embed_many` are sent to
    the model in batches. The first call loads the model.
    """

    def __init__(
        self,
        provider: str,
        model_name: str,
        dim: Positive,
        *,
        bits: Positive | None = None,
        query_prompt: str | None = None,
        passage_prompt: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        batch_size: Positive | None = None,
        concurrency: Positive = 4,
        timeout_s: Seconds = 120.0,
        retries: Retries | None = None,
        verify: bool | ssl.SSLContext = True,
        ca_file: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is loaded or sent yet.

        Args:
            provider: `wordllama`, `sentence_transformer`, `ollama` or `openai`.
            model_name: the provider's name for the model (`l2_supercat` for `wordllama`, 256 dimensions); for
                `sentence_transformer` also a local folder.
            dim: how many of the model's first dimensions to keep.
            bits: how many bits `bin_embed` computes from them, at most 4096, by fixed random projections
                (`superbit-1`); None for the dimensions' signs. More bits than dimensions improve recall, and 512 cost
                the same as 256 (docs/recall.md).
            query_prompt: prepended to each query; None for the prompt that the model's authors specify, if known
                (`xtrace_sdk.x_vec.inference.prompts`), and an empty string for none.
            passage_prompt: prepended to each passage, in the same way.
            base_url: of an API; by default `OLLAMA_HOST` or `OPENAI_BASE_URL`, else its usual address.
            api_key: of an API; by default `OPENAI_API_KEY` or `INFERENCE_API_KEY`, read when the first text is
                embedded.
            batch_size: texts in one call of the model, or in one request.
            concurrency: requests to an API in progress at the same time.
            timeout_s: the maximum time without data from an API.
            retries: how often and how long to retry an API.
            verify: False accepts any certificate of an API, which lets anyone on the network path read texts and key;
                or an `ssl.SSLContext`.
            ca_file: certificates (PEM) of the only authorities to trust for an API.
            transport: replaces the network, for tests.

        Raises `InvalidArgument`.
        """
        self._core = core.Embedding(
            provider,
            model_name,
            dim,
            bits=bits,
            query_prompt=query_prompt,
            passage_prompt=passage_prompt,
            base_url=base_url,
            api_key=api_key,
            batch_size=batch_size,
            concurrency=concurrency,
            timeout_s=timeout_s,
            retries=retries,
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )
        close_when_dropped(self, self._core.aclose)

    @property
    def model(self) -> EmbeddingModel:
        """The model's identity, as a context stores it (`ExecutionContext.create(…, embedding=…)`)."""
        return self._core.model

    def __repr__(self) -> str:
        return repr(self._core)

    def embed(self, text: str) -> Floats:
        """Returns the passage's vector, `(dim,)` float32. Raises `EmbeddingError`."""
        return run(self._core.embed(text))

    def embed_query(self, text: str) -> Floats:
        """Returns the query's vector, `(dim,)` float32. Raises `EmbeddingError`."""
        return run(self._core.embed_query(text))

    def bin_embed(self, text: str) -> Bits:
        """Returns the passage's vector as bits, `(bits,)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        return run(self._core.bin_embed(text))

    def bin_embed_query(self, text: str) -> Bits:
        """Returns the query's vector as bits, `(bits,)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        return run(self._core.bin_embed_query(text))

    def embed_many(self, texts: Sequence[str]) -> Floats:
        """Returns the passages' vectors in order, `(n, dim)` float32. Raises `EmbeddingError`."""
        return run(self._core.embed_many(texts))

    def bin_embed_many(self, texts: Sequence[str]) -> Bits:
        """Returns the passages' vectors as bits, `(n, bits)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        return run(self._core.bin_embed_many(texts))

    def to_bits(self, vectors: Any) -> Bits:
        """Returns the bits of a float vector `(dim,)` or matrix `(n, dim)`: `(bits,)` or `(n, bits)`, uint8.

        Without `bits` these are the `dim` signs: 1 where an element is above 0. With `bits` each is the sign of a
        fixed random projection (docs/formats.md, "More bits than dimensions"), the same on every machine.

        Raises `InvalidVector` for a wrong shape and for elements that are not finite numbers.
        """
        return self._core.to_bits(vectors)

    @staticmethod
    def float_2_bin(vector: Any) -> Bits:
        """The signs of a float vector or matrix: 1 where an element is above 0, else 0; same shape, uint8."""
        return core.Embedding.float_2_bin(vector)

    def close(self) -> None:
        """Closes connections to an API. A later call opens new ones."""
        return run(self._core.aclose())

    @property
    def provider(self) -> str:
        """As given."""
        return self._core.provider

    @property
    def model_name(self) -> str:
        """As given."""
        return self._core.model_name

    @property
    def dim(self) -> Positive:
        """As given."""
        return self._core.dim

    @property
    def bits(self) -> Positive | None:
        """As given."""
        return self._core.bits

    @property
    def query_prompt(self) -> str | None:
        """As given."""
        return self._core.query_prompt

    @property
    def passage_prompt(self) -> str | None:
        """As given."""
        return self._core.passage_prompt
