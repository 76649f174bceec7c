"""`InferenceClient` against a real local server that speaks its API: answers, streams, refusals, and what is sent."""

import pickle
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from support.language_model import (
    DONE,
    LanguageModel,
    Plan,
    completion,
    event,
    language_model,
    refusal,
    stream_of,
    streamed,
)
from xtrace_sdk import PlaintextDisclosure, sync
from xtrace_sdk.errors import InferenceError, InvalidArgument
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.limits import MAX_COMPLETION_BYTES, MAX_EVENT_BYTES
from xtrace_sdk.x_vec import InferenceClient
from xtrace_sdk.x_vec.inference.llm import INSTRUCTIONS

KEY = "sk-verysecretkey0123456789"
ONCE = Retries(attempts=1)


@pytest.fixture
def server() -> Iterator[LanguageModel]:
    with language_model() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "INFERENCE_API_KEY", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)


def client(server: LanguageModel, **options: Any) -> InferenceClient:
    return InferenceClient("custom", "small", KEY, server.url, **{"retries": ONCE, **options})


async def parts(model: InferenceClient, query: str = "Why?", context: str = "") -> list[str]:
    return [part async for part in model.stream(query, context)]


async def test_a_question_travels_with_its_context_and_the_answer_comes_back(server: LanguageModel) -> None:
    model = client(server)
    assert await model.query("Why?", "[1] notes.md\nBecause.") == "It says: Because. [1]"
    (request,) = server.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["headers"]["authorization"] == f"Bearer {KEY}"
    assert (request["model"], request["stream"], request["max_tokens"]) == ("small", False, 2048)
    assert request["messages"] == [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": "Sources:\n\n[1] notes.md\nBecause.\n\nQuestion: Why?"},
    ]
    assert request["messages"] == model.messages("Why?", "[1] notes.md\nBecause.")
    await model.aclose()


async def test_a_streamed_answer_comes_part_by_part(server: LanguageModel) -> None:
    second = threading.Event()
    server.plans = [stream_of(event("one "), second, event("two"), event(None, "stop"), DONE)] * 2
    model = client(server)
    streamed_parts = model.stream("Why?")
    assert await anext(streamed_parts) == "one "  # while the server still waits
    second.set()
    assert [part async for part in streamed_parts] == ["two"]
    assert [part async for part in await model.query("Why?", stream=True)] == ["one ", "two"]
    await model.aclose()


def test_the_synchronous_twin_answers_and_streams(server: LanguageModel) -> None:
    model = sync.InferenceClient("custom", "small", KEY, server.url)
    assert model.query("Why?", "[1] a\nB.") == "It says: B. [1]"
    assert "".join(model.query("Why?", "[1] a\nB.", True)) == "The sources say: B. [1]"
    assert list(model.stream("Why?", "[1] a\nB.")) == ["The sources say: ", "B.", " [1]"]
    model.close()


async def test_an_answer_that_is_not_wanted_any_more_ends_the_request(server: LanguageModel) -> None:
    go_on = threading.Event()
    server.plans = [stream_of(event("one"), go_on, *[event("more" * 1000)] * 5000)]
    model = client(server)
    answer = model.stream("Why?")
    assert await anext(answer) == "one"
    await answer.aclose()
    go_on.set()
    assert server.hung_up.wait(30)
    await model.aclose()


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_is_read_however_it_is_cut_into_pieces(server: LanguageModel, size: int) -> None:
    whole = b": a comment\r\n\r\nevent: message\r\n" + event("Grüße ").replace(b"\n", b"\r\n") + event("[1]") + DONE
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    server.plans = [stream_of(*pieces)]
    assert await parts(client(server)) == ["Grüße ", "[1]"]


async def test_a_service_that_does_not_stream_answers_at_once(server: LanguageModel) -> None:
    server.plans = [completion("all of it")]
    assert await parts(client(server)) == ["all of it"]


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (stream_of(event("half")), "stopped in the middle"),
        (stream_of(event("half"), b'data: {"choi'), "other than a chat completion"),
        (
            stream_of(event("half"), b'data: {"error": {"message": "overloaded"}}\n\n'),
            "aborted its answer: overloaded",
        ),
        (stream_of(event(None), DONE), "an empty answer"),
        (stream_of(event(None, "length"), DONE), "raise max_tokens"),
        (stream_of(b"<html>welcome</html>"), "stopped in the middle"),
        (stream_of(b"data: \xff\n"), "other than a chat completion"),
        (stream_of(b"data: " + b"[" * 100_000 + b"\n"), "other than a chat completion"),
        (stream_of(*[b"x" * 65_536] * (MAX_EVENT_BYTES // 65_536 + 1)), "other than a chat completion"),
        (stream_of(*[b":" * 65_535 + b"\n"] * (MAX_COMPLETION_BYTES // 65_536 + 1)), "more than 8388608 bytes"),
    ],
)
async def test_a_stream_that_is_cut_or_hostile_is_one_sentence(
    server: LanguageModel, plan: Plan, sentence: str
) -> None:
    server.plans = [plan]
    with pytest.raises(InferenceError, match=sentence):
        await parts(client(server))


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        (completion(None), "an empty answer"),
        (completion("", "length"), "raise max_tokens"),
        (Plan(pieces=[b"{}"]), "other than a chat completion"),
        (Plan(pieces=[b'{"choices": [{"message": {"content": ["a list"]}}]}']), "other than a chat completion"),
        (Plan(pieces=[b"<html>welcome</html>"]), "other than a chat completion"),
        (Plan(headers={"content-length": str(MAX_COMPLETION_BYTES + 1)}), "more than 8388608"),
        (Plan(302, headers={"location": "http://203.0.113.1/"}), "status 302"),
    ],
)
async def test_an_answer_that_is_none_is_one_sentence(server: LanguageModel, plan: Plan, sentence: str) -> None:
    server.plans = [plan]
    with pytest.raises(InferenceError, match=sentence):
        await client(server).query("Why?")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_a_refusal_says_why_without_the_key(server: LanguageModel, status: int, stream: bool) -> None:
    server.plans = [refusal(status, f"no\x1b[2J: {KEY} or sk-other*******6789 {'x' * 3000}")]
    model = client(server)
    with pytest.raises(
        InferenceError, match=rf"refused to answer with the model 'small' \(status {status}\): no "
    ) as told:
        await (parts(model) if stream else model.query("Why?"))
    assert told.value.status == status
    assert KEY not in str(told.value) + repr(told.value) + repr(model)
    assert "sk-other" not in str(told.value)
    assert "\x1b" not in str(told.value)
    assert len(str(told.value)) < 700


async def test_a_service_that_is_busy_is_asked_again(server: LanguageModel) -> None:
    server.plans = [refusal(429, "slow down"), refusal(503, "loading"), streamed("yes")]
    assert await parts(client(server, retries=Retries(3, 0.001))) == ["yes"]
    server.plans = [refusal(429, "come tomorrow", **{"retry-after": "86400"})]
    with pytest.raises(InferenceError, match="come tomorrow"):
        await client(server, retries=Retries(3, 0.001)).query("Why?")
    assert len(server.requests) == 4


async def test_a_service_that_is_away_is_one_sentence() -> None:
    model = InferenceClient("custom", "small", base_url="http://127.0.0.1:1/v1", retries=ONCE)
    with pytest.raises(InferenceError, match=r"cannot reach http://127\.0\.0\.1:1"):
        await model.query("Why?")
    with pytest.raises(InferenceError, match=r"cannot reach http://127\.0\.0\.1:1"):
        await parts(model)


async def test_a_silent_stream_ends_after_the_longest_silence(server: LanguageModel) -> None:
    silence = threading.Event()
    server.plans = [stream_of(event("one"), silence)]
    with pytest.raises(InferenceError, match=r"nothing arrived for 0\.05 s"):
        await parts(client(server, timeout_s=0.05))
    silence.set()


# The prompt


async def test_a_template_of_ones_own_replaces_the_instructions(server: LanguageModel) -> None:
    model = client(server, prompt_template='{"from": {context}, "ask": {query}, "{other}": {}}')
    await model.query("{context}?", "{query}")
    assert server.requests[0]["messages"] == [
        {"role": "user", "content": '{"from": {query}, "ask": {context}?, "{other}": {}}'}
    ]
    both = client(server, prompt_template="{query}", instructions="Be brief.")
    assert both.messages("Why?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
    ]
    with pytest.raises(InvalidArgument, match=r"does not contain the placeholder \{query\}"):
        client(server, prompt_template="{context}")


# Where it goes


def handled(seen: list[httpx2.Request]) -> httpx2.MockTransport:
    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"choices": [{"message": {"content": "yes"}}]})

    return httpx2.MockTransport(handle)


async def test_each_provider_has_its_address_and_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx2.Request] = []
    quiet: Any = {"on_disclosure": lambda _: None, "transport": handled(seen)}
    openai = InferenceClient("openai", "m", **quiet)
    with pytest.raises(InvalidArgument, match="OpenAI needs a key"):
        await openai.query("Why?")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # read at first use
    await openai.query("Why?")
    await InferenceClient("ollama", "m", **quiet).query("Why?")
    await InferenceClient("ollama", "m", base_url="box:11435", **quiet).query("Why?")
    custom = InferenceClient("custom", "m", base_url="https://llm.example.com/v1/", **quiet)
    await custom.query("Why?")
    monkeypatch.setenv("INFERENCE_API_KEY", "another")
    await custom.query("Why?")
    assert [str(request.url) for request in seen] == [
        "https://api.openai.com/v1/chat/completions",
        "http://127.0.0.1:11434/v1/chat/completions",
        "http://box:11435/v1/chat/completions",
        "https://llm.example.com/v1/chat/completions",
        "https://llm.example.com/v1/chat/completions",
    ]
    # OpenAI's key goes to OpenAI alone.
    assert [request.headers.get("authorization") for request in seen] == [
        f"Bearer {KEY}",
        None,
        None,
        None,
        "Bearer another",
    ]
    assert b'"max_completion_tokens":2048' in seen[0].content
    assert b'"max_tokens":2048' in seen[1].content


async def test_what_leaves_the_machine_is_said_once_before_it_does() -> None:
    seen: list[httpx2.Request] = []
    remote = InferenceClient("custom", "m", base_url="http://llm.example.com/v1", transport=handled(seen))
    assert not remote.is_local
    with pytest.warns(PlaintextDisclosure, match="in plaintext to http://llm.example.com, which is another machine"):
        await remote.query("Why?")
    assert "anyone on the network path can read them" in remote.disclosure
    await remote.query("Why?")  # another warning would be an error

    told: list[tuple[int, str]] = []
    local = InferenceClient(
        "ollama", "m", on_disclosure=lambda text: told.append((len(seen), text)), transport=handled(seen)
    )
    assert local.is_local
    await local.query("Why?")
    await local.query("Why?")
    ((sent_before, sentence),) = told
    assert sent_before == 2
    assert "http://127.0.0.1:11434, which is this machine" in sentence
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await InferenceClient("ollama", "m", transport=handled(seen)).query("Why?")
    assert "anyone" not in InferenceClient("openai", "m").disclosure


def test_what_cannot_be_is_refused_at_once() -> None:
    for arguments, sentence in (
        (("gopher", "m"), "'gopher', expected openai, ollama, custom"),
        (("openai", ""), "model is empty"),
        (("custom", "m"), "needs base_url"),
        (("custom", "m", None, "llm.example.com"), "not a URL like"),
        (("custom", "m", None, "https://user:password@llm.example.com"), "has a user"),
        (("custom", "m", "two\nlines", "https://llm.example.com"), "api_key has surrounding spaces"),
    ):
        with pytest.raises(InvalidArgument, match=sentence):
            InferenceClient(*arguments)


def test_the_key_is_neither_shown_nor_pickled() -> None:
    for cls in (InferenceClient, sync.InferenceClient):
        model = cls("custom", "m", KEY, "https://llm.example.com/v1")
        assert repr(model) == "InferenceClient('custom', 'm', base_url='https://llm.example.com/v1')"
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(model)
