"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.inference.llm`: change that, and run the script."""

import os
import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Literal, overload

import httpx2

from xtrace_sdk.arguments import Positive, Seconds
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.sync._background import Twin, close_when_dropped, iterate, run, run_or_iterate
from xtrace_sdk.x_vec.inference import llm as core
from xtrace_sdk.x_vec.inference._completions import Message


class InferenceClient(Twin[core.InferenceClient]):
    """A language model with an OpenAI-compatible chat completions API.

    The API sees the question and the context in plaintext: `disclosure` says what is sent, and where. The answer is
    untrusted text; remove control characters before you show it on a terminal.
    """

    def __init__(
        self,
        provider: str,
        model: str,
        api_key: str | None = None,
        base_url: str | None = None,
        prompt_template: str | None = None,
        *,
        instructions: str | None = None,
        max_tokens: Positive = 2048,
        temperature: float | None = None,
        on_disclosure: Callable[[str], object] | None = None,
        timeout_s: Seconds = 120.0,
        retries: Retries | None = None,
        verify: bool | ssl.SSLContext = True,
        ca_file: str | os.PathLike[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            provider: `openai`, `ollama`, or `custom` for another service with the same API, which needs `base_url`.
            model: the provider's name for the model.
            api_key: by default `OPENAI_API_KEY` (for `openai`) or `INFERENCE_API_KEY`, read when the first question is
                asked. OpenAI's key is never sent to a `custom` service unless it is passed here.
            base_url: the URL without `/chat/completions`; by default `OLLAMA_HOST` or `OPENAI_BASE_URL`, else the
                provider's usual one.
            prompt_template: the message to the model, with the placeholders `{query}` and `{context}`. Other braces
                are ordinary characters.
            instructions: the system message; by default rules for answers with citations, and none with a
                `prompt_template`.
            max_tokens: the maximum length of the answer.
            temperature: the randomness of the answer; None for the model's default.
            on_disclosure: called with `disclosure` before the first request. By default a `PlaintextDisclosure`
                warning is emitted, unless the address is this machine.
            timeout_s: the maximum time without data from the API.
            retries: how often and how long to retry, until an answer begins.
            verify: False accepts any certificate of the API, which lets anyone on the network path read texts and key;
                or an `ssl.SSLContext`.
            ca_file: certificates (PEM) of the only authorities to trust for the API.
            transport: replaces the network, for tests.

        Raises `InvalidArgument`.
        """
        self._core = core.InferenceClient(
            provider,
            model,
            api_key,
            base_url,
            prompt_template,
            instructions=instructions,
            max_tokens=max_tokens,
            temperature=temperature,
            on_disclosure=on_disclosure,
            timeout_s=timeout_s,
            retries=retries,
            verify=verify,
            ca_file=ca_file,
            transport=transport,
        )
        close_when_dropped(self, self._core.aclose)

    def __repr__(self) -> str:
        return repr(self._core)

    @property
    def is_local(self) -> bool:
        """Whether the API's address is this machine."""
        return self._core.is_local

    @property
    def disclosure(self) -> str:
        """Says in a sentence or two what is sent with each question, and where."""
        return self._core.disclosure

    def messages(self, query: str, context: str = "") -> list[Message]:
        """The messages to the model: objects with `role` and `content`. No other user data is sent."""
        return self._core.messages(query, context)

    @overload
    def query(self, query: str, context: str = "", stream: Literal[False] = False) -> str: ...

    @overload
    def query(self, query: str, context: str = "", *, stream: Literal[True]) -> Generator[str, None]: ...

    @overload
    def query(self, query: str, context: str, stream: Literal[True]) -> Generator[str, None]: ...

    @overload
    def query(self, query: str, context: str = "", stream: bool = False) -> str | Generator[str, None]: ...

    def query(self, query: str, context: str = "", stream: bool = False) -> str | Generator[str, None]:
        """Returns the model's answer; with `stream`, yields parts of its text as `stream` does.

        Raises `InferenceError`, and `InvalidArgument` if the API needs a key and none is set.
        """
        return run_or_iterate(self._core.query(query, context, stream))

    def complete(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Returns the model's answer to these messages, objects with `role` and `content`, without the template.

        Raises what `query` raises.
        """
        return run(self._core.complete(messages))

    def stream(self, query: str, context: str = "") -> Generator[str, None]:
        """Yields parts of the answer's text as they arrive. Closing the generator ends the request.

        Raises what `query` raises; after an error the answer is incomplete.
        """
        return iterate(self._core.stream(query, context))

    def close(self) -> None:
        """Closes the connections. A later call opens new ones."""
        return run(self._core.aclose())

    @property
    def provider(self) -> str:
        """As given."""
        return self._core.provider

    @property
    def model(self) -> str:
        """As given."""
        return self._core.model
