"""Requests and answers of chat completions, in OpenAI's format, which many services support."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from xtrace_sdk.errors import InferenceError
from xtrace_sdk.limits import MAX_COMPLETION_BYTES, MAX_EVENT_BYTES
from xtrace_sdk.x_vec.inference._api_access import reason_of

Message = dict[str, str]

_DATA: Final = b"data:"
_DONE: Final = b"[DONE]"


class _Text(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Text = msgspec.field(default_factory=_Text)
    delta: _Text = msgspec.field(default_factory=_Text)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    """A whole answer, or one event of a stream; some events contain only the usage."""

    choices: list[_Choice] = []
    error: Any = None
    """The error that some services put into a stream that they cannot continue."""


def body_of(model: str, messages: Sequence[Mapping[str, str]], options: dict[str, Any], *, stream: bool) -> bytes:
    """The request as JSON."""
    return msgspec.json.encode({"model": model, "messages": messages, "stream": stream, **options})


def text_of(body: bytes, api: str) -> str:
    """Returns the text of a whole answer. Raises `InferenceError`, which names the API."""
    completion = _decoded(body, api)
    if not completion.choices:
        raise _not_an_answer(api)
    choice = completion.choices[0]
    if not choice.message.content:
        raise _empty(api, choice.finish_reason)
    return choice.message.content


async def texts_of(pieces: AsyncIterator[bytes], api: str, key: str) -> AsyncGenerator[str, None]:
    """Yields the parts of a streamed answer's text as they arrive.

    Raises `InferenceError` if the stream ends before the answer, lacks text, or does not follow this API; its message
    does not contain the key.
    """
    is_complete, finish_reason, has_text = False, None, False
    async for event in _events(pieces, api):
        if event == _DONE:
            is_complete = True
            break
        completion = _decoded(event, api)
        if completion.error is not None:
            raise InferenceError(f"{api} aborted its answer: {reason_of(event, key)}")
        for choice in completion.choices[:1]:
            finish_reason = choice.finish_reason or finish_reason
            if choice.delta.content:
                has_text = True
                yield choice.delta.content
    if not is_complete and finish_reason is None:
        raise InferenceError(f"{api} stopped in the middle of its answer: try again")
    if not has_text:
        raise _empty(api, finish_reason)


async def bounded(pieces: AsyncIterator[bytes], api: str) -> AsyncGenerator[bytes, None]:
    """Yields the pieces of an answer. Raises `InferenceError` if it exceeds the accepted size."""
    count = 0
    async for piece in pieces:
        count += len(piece)
        if count > MAX_COMPLETION_BYTES:
            raise InferenceError(f"the answer of {api} has more than {MAX_COMPLETION_BYTES} bytes: lower max_tokens")
        yield piece


async def _events(pieces: AsyncIterator[bytes], api: str) -> AsyncGenerator[bytes, None]:
    """Yields the data of server-sent events, each of which is one line here."""
    line = bytearray()
    async for piece in pieces:
        *complete, rest = piece.split(b"\n")
        for part in complete:
            line += part
            if line.startswith(_DATA):
                yield bytes(line[len(_DATA) :].strip())
            line.clear()
        line += rest
        if len(line) > MAX_EVENT_BYTES:
            raise _not_an_answer(api)
    if line.startswith(_DATA):
        yield bytes(line[len(_DATA) :].strip())


def _decoded(body: bytes, api: str) -> _Completion:
    try:
        return msgspec.json.decode(body, type=_Completion)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise _not_an_answer(api) from None


def _not_an_answer(api: str) -> InferenceError:
    return InferenceError(f"{api} answered with something other than a chat completion: check base_url")


def _empty(api: str, reason: str | None) -> InferenceError:
    if reason == "length":
        return InferenceError(f"{api} used all of max_tokens before it wrote any text: raise max_tokens")
    return InferenceError(f"{api} returned an empty answer: ask again, or choose another model")
