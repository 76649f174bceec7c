"""Models behind an HTTP API: Ollama's, and OpenAI's, which many services support. They see the texts."""

import asyncio
import os
import ssl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Final

import httpx2
import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import NetworkError, ProviderFault, TextRefused
from xtrace_sdk.http.transport import Answer, HttpClient, Request, Retries, header_value
from xtrace_sdk.limits import MAX_COUNT_BYTES, MAX_DIMENSIONS, MAX_NUMBER_BYTES
from xtrace_sdk.x_vec.inference._api_access import ollama_address, openai_address, openai_key, reason_of

Floats = NDArray[np.float32]

_OTHER_VALUES: Final = 64
"""The number of values besides the vectors, per vector and per answer: an index, a kind, the usage."""
_REFUSALS: Final = frozenset((400, 413, 422, 500))
"""The statuses for a text that is too long or otherwise rejected: 400 for OpenAI, 400 or 500 for Ollama."""
_DEADLINE_S: Final = 900.0


class _ApiProvider(Secretive, ABC):
    """Sends batches of texts as requests; the subclasses contain what differs between the APIs."""

    title: ClassVar[str]
    path: ClassVar[str]

    def __init__(
        self,
        model_name: str,
        *,
        base_url: str | None,
        api_key: str | None,
        batch_size: int,
        concurrency: int,
        timeout_s: float,
        retries: Retries,
        verify: bool | ssl.SSLContext,
        ca_file: str | os.PathLike[str] | None,
        transport: httpx2.AsyncBaseTransport | None,
    ) -> None:
        self._model_name = model_name
        self._base_url = self._address(base_url)
        self._given_address = base_url
        self._given_key = header_value(api_key or "", "api_key")
        self._batch_size = batch_size
        self._http = HttpClient(
            timeout_s=timeout_s,
            deadline_s=_DEADLINE_S,
            max_answer_bytes=batch_size * MAX_DIMENSIONS * MAX_NUMBER_BYTES + MAX_COUNT_BYTES,
            max_connections=concurrency,
            retries=retries,
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )

    async def vectors(self, texts: Sequence[str]) -> Floats:
        """Returns `(n, dimensions of the model)` float32; sends up to `concurrency` requests at once."""
        batches = [texts[start : start + self._batch_size] for start in range(0, len(texts), self._batch_size)]
        tasks = [asyncio.ensure_future(self._batch(batch)) for batch in batches]
        try:
            parts = await asyncio.gather(*tasks)
        finally:
            # After an error, the other requests would cost money for nothing.
            for task in tasks:
                task.cancel()
        if len({part.shape[1:] for part in parts}) > 1:
            raise ProviderFault(f"{self.title} returned vectors of different lengths for one model")
        return np.concatenate(parts)

    async def aclose(self) -> None:
        """Closes the connections of the current event loop."""
        await self._http.aclose()

    async def _batch(self, texts: Sequence[str]) -> Floats:
        headers = {"content-type": "application/json", "accept": "application/json"}
        key = self._key(self._given_key, self._given_address)
        if key:
            headers["authorization"] = f"Bearer {key}"
        body = msgspec.json.encode({"model": self._model_name, "input": texts, **self._options()})
        try:
            answer = await self._http.send(Request("POST", f"{self._base_url}{self.path}", headers, body))
        except NetworkError as error:
            raise ProviderFault(f"{self.title}: {error}") from None
        if answer.status != 200:
            raise self._refusal(answer, key, texts)
        return await asyncio.to_thread(self._read, answer.body, len(texts))

    def _read(self, body: bytes, count: int) -> Floats:
        # Each value except the first has a comma before it, so commas bound the memory for decoding.
        if body.count(b",") > count * MAX_DIMENSIONS + (count + 1) * _OTHER_VALUES:
            raise ProviderFault(
                f"{self.title} returned more numbers than {count} vectors of {MAX_DIMENSIONS} have: check base_url "
                "and the model"
            )
        try:
            rows = self._rows(body)
            if len(rows) != count:
                raise ProviderFault(
                    f"{self.title} returned {len(rows)} vectors for {count} texts, expected one for each"
                )
            with np.errstate(over="ignore"):  # the caller rejects infinite values
                vectors = np.array(rows, dtype=np.float32)
        except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
            if isinstance(error, ProviderFault):
                raise
            raise ProviderFault(
                f"{self.title} at {self._base_url} answered with something other than its API's format: check base_url"
            ) from None
        return vectors

    def _refusal(self, answer: Answer, key: str, texts: Sequence[str]) -> ProviderFault:
        fault = TextRefused if answer.status in _REFUSALS else ProviderFault
        return fault(
            f"{self.title} refused to embed with the model {self._model_name!r} (status {answer.status}): "
            f"{reason_of(answer.body, key)}",
            status=answer.status,
            chunk_len=max(map(len, texts)),
        )

    def _options(self) -> dict[str, Any]:
        return {}

    @abstractmethod
    def _address(self, given: str | None) -> str: ...

    @abstractmethod
    def _key(self, given: str, address: str | None) -> str: ...

    @abstractmethod
    def _rows(self, body: bytes) -> list[list[float]]: ...


class _OllamaAnswer(msgspec.Struct):
    embeddings: list[list[float]]


class OllamaProvider(_ApiProvider):
    """`POST /api/embed` of Ollama, which must be running and have the model."""

    title = "Ollama"
    path = "/api/embed"

    def _options(self) -> dict[str, Any]:
        return {"truncate": False}  # by default, it silently truncates long texts

    def _address(self, given: str | None) -> str:
        return ollama_address(given)

    def _key(self, given: str, address: str | None) -> str:
        return given

    def _rows(self, body: bytes) -> list[list[float]]:
        return msgspec.json.decode(body, type=_OllamaAnswer).embeddings


class _OpenAiVector(msgspec.Struct):
    index: int
    embedding: list[float]


class _OpenAiAnswer(msgspec.Struct):
    data: list[_OpenAiVector]


class OpenAiProvider(_ApiProvider):
    """`POST /embeddings` of OpenAI, and of services with the same API."""

    title = "OpenAI"
    path = "/embeddings"

    def _address(self, given: str | None) -> str:
        return openai_address(given)

    def _key(self, given: str, address: str | None) -> str:
        return openai_key(given, address)

    def _options(self) -> dict[str, Any]:
        return {"encoding_format": "float"}

    def _rows(self, body: bytes) -> list[list[float]]:
        data = msgspec.json.decode(body, type=_OpenAiAnswer).data
        by_index = {vector.index: vector.embedding for vector in data}
        if sorted(by_index) != list(range(len(data))):
            raise ProviderFault("OpenAI returned vectors whose indexes do not match the texts")
        return [by_index[i] for i in range(len(data))]
