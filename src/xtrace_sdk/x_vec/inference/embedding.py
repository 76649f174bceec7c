"""`Embedding`: turns texts into vectors, with a local model or an API, and into the bits that are encrypted.

An API sees the texts that it embeds. `wordllama` and `sentence_transformer` run on this machine.
"""

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import httpx2
import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.arguments import Positive, Seconds, checked_calls
from xtrace_sdk.errors import EmbeddingError, InvalidArgument, InvalidVector, ProviderFault, TextRefused
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.x_vec.chunks.vectors import VectorForm, float_to_bits
from xtrace_sdk.x_vec.inference._apis import OllamaProvider, OpenAiProvider
from xtrace_sdk.x_vec.inference._local import SentenceTransformerProvider, WordLlamaProvider
from xtrace_sdk.x_vec.inference.model import EmbeddingModel
from xtrace_sdk.x_vec.inference.prompts import prompts_of

T = TypeVar("T")

Floats = NDArray[np.float32]
Bits = NDArray[np.uint8]

PROVIDERS: Final = ("wordllama", "sentence_transformer", "ollama", "openai")


class Provider(Protocol):
    """A source of vectors."""

    async def vectors(self, texts: Sequence[str]) -> Floats:
        """Returns one vector for each text, of which there is at least one, in order: `(n, dimensions of the
        model)`."""
        ...

    async def aclose(self) -> None:
        """Closes connections."""
        ...


@checked_calls
class Embedding(Secretive):
    """A model that embeds texts, truncated to `dim` dimensions.

    Many models expect a prompt before a query, and a different one or none before a stored text (a *passage*). `embed`
    and `bin_embed` embed passages, `embed_query` and `bin_embed_query` embed queries. A text that is too long for the
    model raises `TextRefused`; it is never truncated.

    Calls of `embed` and `bin_embed` that are awaited together (by `asyncio.gather`, or by the data loader) are sent to
    the model in batches. The first call loads the model. Loading and computation run outside the event loop.
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
        if not model_name:
            raise InvalidArgument("model_name is empty, expected the provider's name for a model")
        self.provider = provider
        self.model_name = model_name
        self.dim = dim
        self.bits = bits
        self._options: dict[str, Any] = {
            "bits": bits,
            "query_prompt": query_prompt,
            "passage_prompt": passage_prompt,
            "base_url": base_url,
            "batch_size": batch_size,
            "concurrency": concurrency,
            "timeout_s": timeout_s,
            "retries": retries,
            "verify": verify,
            "ca_file": ca_file,
            "transport": transport,
        }
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting] = WeakKeyDictionary()
        self._running: set[asyncio.Task[None]] = set()
        self._source: Provider
        api: dict[str, Any] = {
            "base_url": base_url,
            "api_key": api_key,
            "concurrency": concurrency,
            "timeout_s": timeout_s,
            "retries": retries or Retries(),
            "verify": verify,
            "ca_file": ca_file,
            "transport": transport,
        }
        match provider:
            case "wordllama":
                self._source = WordLlamaProvider(model_name, batch_size or 1024)
            case "sentence_transformer":
                self._source = SentenceTransformerProvider(model_name, batch_size or 128)
            case "ollama":
                self._source = OllamaProvider(model_name, batch_size=batch_size or 64, **api)
            case "openai":
                self._source = OpenAiProvider(model_name, batch_size=batch_size or 256, **api)
            case _:
                raise InvalidArgument(f"the embedding provider is {provider!r}, expected {', '.join(PROVIDERS)}")
        usual = prompts_of(model_name)
        self.query_prompt = usual.query if query_prompt is None else query_prompt
        self.passage_prompt = usual.passage if passage_prompt is None else passage_prompt
        self._model = EmbeddingModel(provider, model_name, dim, bits, self.query_prompt, self.passage_prompt)
        self._form = VectorForm(dim) if bits is None else VectorForm(bits, dim)

    @property
    def model(self) -> EmbeddingModel:
        """The model's identity, as a context stores it (`ExecutionContext.create(…, embedding=…)`)."""
        return self._model

    def __eq__(self, other: object) -> bool:
        """Whether the other one returns the same vectors: the same model at the same address."""
        if not isinstance(other, Embedding):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[EmbeddingModel, str | None]:
        return self.model, self._options["base_url"]

    def __reduce_ex__(self, protocol: object) -> Any:
        """Pickles everything except the key: the copy reads it from the environment at its first use."""
        given = {name: value for name, value in self._options.items() if value is not None}
        if not isinstance(given["verify"], bool) or "transport" in given:
            raise TypeError(
                "an Embedding with an SSL context or a transport cannot be pickled: create it in each process"
            )
        return _made_again, (type(self), self.provider, self.model_name, self.dim, given)

    def __repr__(self) -> str:
        bits = "" if self.bits is None else f", bits={self.bits}"
        return f"Embedding({self.provider!r}, {self.model_name!r}, {self.dim}{bits})"

    async def embed(self, text: str) -> Floats:
        """Returns the passage's vector, `(dim,)` float32. Raises `EmbeddingError`."""
        _check_texts([text])
        return await self._embed_one(self.passage_prompt + text)

    async def embed_query(self, text: str) -> Floats:
        """Returns the query's vector, `(dim,)` float32. Raises `EmbeddingError`."""
        _check_texts([text])
        return await self._embed_one(self.query_prompt + text)

    async def _embed_one(self, text: str) -> Floats:
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(loop)
        if waiting is None:
            waiting = self._waiting[loop] = _Waiting()
            # It starts once every ready coroutine has run up to here, so that together they form one batch.
            task = loop.create_task(self._embed_waiting(loop, waiting))
            self._running.add(task)  # the loop keeps only a weak reference
            task.add_done_callback(self._running.discard)
        vector: asyncio.Future[Floats] = loop.create_future()
        waiting.texts.append(text)
        waiting.vectors.append(vector)
        return await vector

    async def bin_embed(self, text: str) -> Bits:
        """Returns the passage's vector as bits, `(bits,)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        (bits,) = await self._to_bits((await self.embed(text))[None])
        return cast("Bits", bits)

    async def bin_embed_query(self, text: str) -> Bits:
        """Returns the query's vector as bits, `(bits,)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        (bits,) = await self._to_bits((await self.embed_query(text))[None])
        return cast("Bits", bits)

    async def embed_many(self, texts: Sequence[str]) -> Floats:
        """Returns the passages' vectors in order, `(n, dim)` float32. Raises `EmbeddingError`."""
        _check_texts(texts)
        return await self._embed_all([self.passage_prompt + text for text in texts])

    async def _embed_all(self, texts: list[str]) -> Floats:
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        return self._checked(await self._source.vectors(texts), len(texts))

    async def bin_embed_many(self, texts: Sequence[str]) -> Bits:
        """Returns the passages' vectors as bits, `(n, bits)` uint8, as `to_bits` does. Raises `EmbeddingError`."""
        return await self._to_bits(await self.embed_many(texts))

    def to_bits(self, vectors: Any) -> Bits:
        """Returns the bits of a float vector `(dim,)` or matrix `(n, dim)`: `(bits,)` or `(n, bits)`, uint8.

        Without `bits` these are the `dim` signs: 1 where an element is above 0. With `bits` each is the sign of a
        fixed random projection (docs/formats.md, "More bits than dimensions"), the same on every machine.

        Raises `InvalidVector` for a wrong shape and for elements that are not finite numbers.
        """
        floats = np.asarray(vectors)
        if floats.ndim not in (1, 2) or floats.shape[-1] != self.dim or floats.dtype.kind not in "fiu":
            raise InvalidVector(
                f"got an array of shape {floats.shape} and type {floats.dtype}, expected floats of shape "
                f"({self.dim},) or (n, {self.dim})"
            )
        bits: Bits = self._form.bits(np.atleast_2d(floats)).reshape(*floats.shape[:-1], self._form.embed_len)
        return bits

    @staticmethod
    def float_2_bin(vector: Any) -> Bits:
        """The signs of a float vector or matrix: 1 where an element is above 0, else 0; same shape, uint8."""
        return float_to_bits(vector)

    async def aclose(self) -> None:
        """Closes connections to an API. A later call opens new ones."""
        await self._source.aclose()

    async def _to_bits(self, vectors: Floats) -> Bits:
        if self.bits is None:
            return self.float_2_bin(vectors)
        return await asyncio.to_thread(self._form.bits, vectors)

    async def _embed_waiting(self, loop: asyncio.AbstractEventLoop, waiting: "_Waiting") -> None:
        del self._waiting[loop]  # later calls form another batch
        try:
            vectors = await self._embed_all(waiting.texts)
        except BaseException as error:
            for future in waiting.vectors:
                if not future.done():
                    if isinstance(error, asyncio.CancelledError):
                        future.cancel()
                    else:
                        future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            for future, vector in zip(waiting.vectors, vectors, strict=True):
                if not future.done():
                    future.set_result(vector)

    def _checked(self, vectors: Floats, count: int) -> Floats:
        if vectors.ndim != 2 or len(vectors) != count:
            raise ProviderFault(f"{self!r} returned {len(vectors)} vectors for {count} texts, expected one for each")
        if vectors.shape[1] < self.dim:
            raise EmbeddingError(
                f"the model {self.model_name!r} returns {vectors.shape[1]} dimensions, expected at least {self.dim}: "
                "choose a smaller dim or another model"
            )
        if not np.isfinite(vectors).all():
            raise TextRefused(f"{self!r} returned a vector with elements that are not finite numbers")
        return np.ascontiguousarray(vectors[:, : self.dim], dtype=np.float32)


def _made_again(cls: Callable[..., T], provider: str, model_name: str, dim: int, options: dict[str, Any]) -> T:
    return cls(provider, model_name, dim, **options)


class _Waiting:
    """Calls of `embed` that will become one batch."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.vectors: list[asyncio.Future[Floats]] = []


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise InvalidArgument("got one text, expected a list of texts")
    for text in texts:
        if not isinstance(text, str):
            raise InvalidArgument(f"got {type(text).__name__}, expected a text to embed")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidArgument("a text contains an unpaired surrogate: decode it with its actual encoding") from None


def embedding_for(model: EmbeddingModel | None) -> Embedding:
    """Creates the embedding for a context's model; addresses and keys of APIs come from the environment.

    Raises `InvalidArgument` if there is no model, or its provider is unknown.
    """
    if model is None:
        raise InvalidArgument(
            "got a text, but no model, and the context does not name one: pass embedding=Embedding(…)"
        )
    return Embedding(
        model.provider,
        model.model_name,
        model.dim,
        bits=model.bits,
        query_prompt=model.query_prompt,
        passage_prompt=model.passage_prompt,
    )
