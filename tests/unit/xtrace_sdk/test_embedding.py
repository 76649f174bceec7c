"""`Embedding`: its contract with the real model of `wordllama`, what it asks of providers, and the HTTP providers
against a real local server that speaks their APIs.
"""

import asyncio
import json
import logging
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_sdk.errors import EmbeddingError, InvalidArgument, InvalidVector, MissingPackage, ProviderFault, TextRefused
from xtrace_sdk.http.transport import Retries
from xtrace_sdk.limits import MAX_DIMENSIONS, MAX_NUMBER_BYTES
from xtrace_sdk.x_vec.chunks.superbit import superbits
from xtrace_sdk.x_vec.inference.embedding import PROVIDERS, Embedding, embedding_for
from xtrace_sdk.x_vec.inference.model import EmbeddingModel

KEY = "sk-verysecretkey0123456789"


def vector_of(text: str, dimensions: int = 8) -> list[float]:
    """What the fake models answer: numbers that tell the texts apart."""
    return [((len(text) * (i + 3)) % 7) - 3.0 for i in range(dimensions)]


class FakeApis(ThreadingHTTPServer):
    """Speaks Ollama's and OpenAI's embedding API; `answers` are given first, one for each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, Any]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()
        self.gate: threading.Barrier | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeApis
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.requests.append({"path": self.path, "headers": dict(self.headers), **body})
            planned = self.server.answers.pop(0) if self.server.answers else None
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        if self.server.gate is not None:
            self.server.gate.wait(timeout=10)
        with self.server.lock:
            self.server.at_once -= 1
        self._send(*(planned or (200, json.dumps(self._answer(body)).encode())))

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        vectors = [vector_of(text) for text in body["input"]]
        if self.path == "/api/embed":
            return {"model": body["model"], "embeddings": vectors, "total_duration": 1}
        data = [{"object": "embedding", "index": i, "embedding": v} for i, v in enumerate(vectors)]
        return {"object": "list", "data": data[::-1], "model": body["model"], "usage": {}}

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture
def apis() -> Iterator[FakeApis]:
    server = FakeApis()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def api_embedding(provider: str, apis: FakeApis, dim: int = 8, **options: Any) -> Embedding:
    settings: dict[str, Any] = {
        "base_url": apis.url if provider == "ollama" else f"{apis.url}/v1",
        "retries": Retries(attempts=3, first_delay_s=0.0),
    }
    return Embedding(provider, "some-model", dim, **(settings | options))


both_apis = pytest.mark.parametrize("provider", ["ollama", "openai"])


# Every provider


@pytest.mark.parametrize("provider", ["", "huggingface", "Ollama"])
def test_an_unknown_provider_is_refused_with_the_known_ones(provider: str) -> None:
    with pytest.raises(InvalidArgument, match=", ".join(PROVIDERS)):
        Embedding(provider, "m", 8)


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"dim": "8"}, {"dim": True}, {"model_name": ""}, {"batch_size": 0}, {"concurrency": 0}]
)
def test_settings_that_cannot_be_are_refused(options: Any) -> None:
    with pytest.raises(InvalidArgument):
        Embedding("ollama", **({"model_name": "m", "dim": 8} | options))


@pytest.mark.parametrize("text", [None, 3, b"bytes", "half \ud800"])
async def test_what_is_no_text_is_refused(text: Any) -> None:
    embedding = Embedding("wordllama", "l2_supercat", 64)
    with pytest.raises(InvalidArgument):
        await embedding.embed(text)
    with pytest.raises(InvalidArgument):
        await embedding.embed_many(["fine", text])


async def test_one_text_in_place_of_many_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="a list, each element a text"):
        await Embedding("wordllama", "l2_supercat", 64).embed_many("abc")


def test_a_bit_is_set_where_the_element_is_above_zero() -> None:
    bits = Embedding.float_2_bin([0.1, 0.0, -0.0, -3, 1e-30])
    assert bits.dtype == np.uint8
    assert bits.tolist() == [1, 0, 0, 0, 1]
    assert Embedding.float_2_bin(np.array([[1.0, -1.0], [0.0, 2.0]])).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InvalidVector):
        Embedding.float_2_bin([float("nan")])


class Source:
    """A provider that answers as it is told and counts its calls."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.calls: list[list[str]] = []

    async def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        await asyncio.sleep(0)
        if isinstance(self.answer, BaseException):
            raise self.answer
        if self.answer is not None:
            return np.asarray(self.answer, dtype=np.float32)
        return np.array([vector_of(text) for text in texts], dtype=np.float32)

    async def aclose(self) -> None:
        """Nothing is open."""


def over(source: Source, dim: int = 8) -> Embedding:
    embedding = Embedding("ollama", "m", dim)
    embedding._source = source
    return embedding


async def test_texts_awaited_together_go_to_the_model_together() -> None:
    source = Source()
    embedding = over(source)
    texts = ["a" * i for i in range(100)]
    vectors = await asyncio.gather(*(embedding.bin_embed(text) for text in texts))
    assert [v.tolist() for v in vectors] == (await embedding.bin_embed_many(texts)).tolist()
    assert source.calls == [texts, texts]
    await embedding.embed("later")
    assert source.calls[2] == ["later"]
    assert not embedding._waiting
    await asyncio.sleep(0)
    assert not embedding._running


async def test_a_fault_reaches_everybody_who_waits_and_nobody_after() -> None:
    source = Source(ProviderFault("out of order"))
    embedding = over(source)
    results = await asyncio.gather(*(embedding.embed("x") for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["out of order"] * 3
    source.answer = None
    assert (await embedding.embed("x")).shape == (8,)


async def test_who_stops_waiting_does_not_disturb_the_others() -> None:
    embedding = over(Source())
    first, second = (asyncio.ensure_future(embedding.embed(text)) for text in ("a", "bb"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).tolist() == vector_of("bb")
    assert first.cancelled()


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        ([[1.0] * 7], EmbeddingError, "7 dimensions, expected at least 8"),
        ([[1.0] * 8] * 2, ProviderFault, "2 vectors for 1 texts"),
        ([1.0] * 8, ProviderFault, "expected one for each"),
        ([[float("nan")] * 8], ProviderFault, "not finite numbers"),
        ([[float("inf")] * 8], ProviderFault, "not finite numbers"),
    ],
)
async def test_vectors_that_cannot_be_used_are_one_clear_error(
    answer: Any, expected: type[EmbeddingError], words: str
) -> None:
    with pytest.raises(expected, match=words):
        await over(Source(answer)).embed("x")


async def test_no_texts_give_no_vectors_and_ask_nobody() -> None:
    source = Source()
    assert (await over(source).embed_many([])).shape == (0, 8)
    assert (await over(source).bin_embed_many([])).shape == (0, 8)
    assert not source.calls


# wordllama


@pytest.mark.parametrize("dim", [256, 128, 64])
async def test_wordllama_embeds_by_meaning(dim: int) -> None:
    embedding = Embedding("wordllama", "l2_supercat", dim)
    texts = ["the cat sat on the mat", "a kitten lay on the rug", "quarterly revenue rose by ten percent"]
    vectors = await embedding.embed_many(texts)
    bits = await embedding.bin_embed_many(texts)
    assert vectors.shape == bits.shape == (3, dim)
    assert (vectors.dtype.name, bits.dtype.name) == ("float32", "uint8")
    assert np.array_equal(await embedding.embed(texts[1]), vectors[1])
    assert np.array_equal(await embedding.bin_embed(texts[2]), bits[2])
    near, far = (bits[0] != bits[1]).sum(), (bits[0] != bits[2]).sum()
    assert near < far


async def test_wordllama_gives_a_text_the_same_vector_in_any_company() -> None:
    embedding = Embedding("wordllama", "l2_supercat", 256, batch_size=100)
    texts = [f"{'word ' * (i % 70)}number {i}" for i in range(250)] + ["", "x" * 70_000]
    together = await embedding.embed_many(texts)
    for i in (0, 1, 69, 100, 249, 250, 251):
        assert np.array_equal(together[i], await embedding.embed(texts[i]))
    assert not together[250].any()


async def test_truncation_keeps_the_first_dimensions() -> None:
    long, short = (Embedding("wordllama", "l2_supercat", dim) for dim in (256, 64))
    assert np.array_equal((await long.embed("some text"))[:64], await short.embed("some text"))


async def test_bits_are_projections_of_the_dimensions() -> None:
    embedding = Embedding("wordllama", "l2_supercat", 128, bits=300)
    signs = Embedding("wordllama", "l2_supercat", 128)
    texts = ["The March invoice is still unpaid.", "The cat is asleep."]
    floats, bits = await embedding.embed_many(texts), await embedding.bin_embed_many(texts)
    assert np.array_equal(floats, await signs.embed_many(texts))
    assert np.array_equal(bits, superbits(floats, 300))
    assert np.array_equal(await embedding.bin_embed(texts[1]), bits[1])
    assert np.array_equal(embedding.to_bits(floats), bits)
    assert np.array_equal(embedding.to_bits(floats[0].tolist()), bits[0])
    assert np.array_equal(signs.to_bits(floats), floats > 0)
    for wrong in (floats[:, :100], floats[None], ["x"] * 128, np.full(128, np.nan)):
        with pytest.raises(InvalidVector):
            embedding.to_bits(wrong)
    assert (await embedding.bin_embed_many([])).shape == (0, 300)
    assert repr(embedding) == "Embedding('wordllama', 'l2_supercat', 128, bits=300)"
    assert embedding != signs
    assert pickle.loads(pickle.dumps(embedding)) == embedding  # noqa: S301


async def test_wordllama_has_no_more_than_256_dimensions() -> None:
    with pytest.raises(EmbeddingError, match="256 dimensions, expected at least 512"):
        await Embedding("wordllama", "l2_supercat", 512).embed("x")


def test_wordllama_has_one_model() -> None:
    with pytest.raises(InvalidArgument, match="l2_supercat"):
        Embedding("wordllama", "l3_supercat", 256)


def test_wordllama_needs_no_network_and_leaves_logging_alone() -> None:
    code = """
import asyncio, logging, socket, warnings
warnings.simplefilter("error")
def refuse(*args): raise AssertionError("the network was used")
from xtrace_sdk.x_vec.inference.embedding import Embedding
async def main():
    embedding = Embedding("wordllama", "l2_supercat", 64)
    socket.socket.connect = socket.getaddrinfo = refuse
    print((await embedding.bin_embed("text")).shape)
asyncio.run(main())
assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("(64,)\n", "", 0)


async def test_the_event_loop_goes_on_while_a_model_works() -> None:
    embedding = Embedding("wordllama", "l2_supercat", 256)
    work = asyncio.ensure_future(embedding.embed_many(["some words " * 200] * 500))
    turns = 0
    while not work.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 5
    await work


@pytest.mark.parametrize(
    ("provider", "package", "command"),
    [
        ("wordllama", "wordllama", "pip install wordllama"),
        ("sentence_transformer", "sentence_transformers", r'pip install "xtracedb\[embedding\]"'),
    ],
)
async def test_a_missing_package_is_named_with_the_command_that_installs_it(
    provider: str, package: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    model = "l2_supercat" if provider == "wordllama" else "some/model"
    with pytest.raises(MissingPackage, match=command):
        await Embedding(provider, model, 64).embed("x")


# Ollama and OpenAI


@both_apis
async def test_vectors_come_in_the_order_of_the_texts(provider: str, apis: FakeApis) -> None:
    embedding = api_embedding(provider, apis, dim=5, batch_size=3)
    texts = ["a" * i for i in range(10)]
    assert (await embedding.embed_many(texts)).tolist() == [vector_of(text)[:5] for text in texts]
    assert (await embedding.bin_embed("aaaa")).tolist() == [int(x > 0) for x in vector_of("aaaa")[:5]]
    assert sorted(len(request["input"]) for request in apis.requests) == [1, 1, 3, 3, 3]
    assert {request["model"] for request in apis.requests} == {"some-model"}
    await embedding.aclose()


@both_apis
async def test_prompts_stand_before_queries_and_passages(provider: str, apis: FakeApis) -> None:
    embedding = api_embedding(provider, apis, query_prompt="find: ", passage_prompt="text: ")
    await asyncio.gather(
        embedding.embed("a"), embedding.bin_embed("b"), embedding.embed_query("c"), embedding.bin_embed_query("d")
    )
    assert [sorted(request["input"]) for request in apis.requests] == [["find: c", "find: d", "text: a", "text: b"]]
    assert (await embedding.embed_query("x")).tolist() == vector_of("find: x")
    assert (await embedding.bin_embed_query("x")).tolist() == [int(x > 0) for x in vector_of("find: x")]
    assert (await embedding.embed_many(["x", "y"])).tolist() == [vector_of("text: x"), vector_of("text: y")]
    assert (await embedding.bin_embed_many(["x"])).tolist() == [[int(x > 0) for x in vector_of("text: x")]]
    assert embedding.model == EmbeddingModel(provider, "some-model", 8, None, "find: ", "text: ")
    await embedding.aclose()


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
        ("mxbai-embed-large:335m", "Represent this sentence for searching relevant passages: ", ""),
        ("mixedbread-ai/mxbai-embed-large-v1", "Represent this sentence for searching relevant passages: ", ""),
        ("intfloat/multilingual-e5-base", "query: ", "passage: "),
        ("intfloat/multilingual-e5-large-instruct", "", ""),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", ""),
        ("nomic-embed-text", "search_query: ", "search_document: "),
        ("text-embedding-3-small", "", ""),
    ],
)
def test_well_known_models_have_their_makers_prompts(name: str, query: str, passage: str) -> None:
    embedding = Embedding("ollama", name, 8)
    assert (embedding.query_prompt, embedding.passage_prompt) == (query, passage)
    none = Embedding("ollama", name, 8, query_prompt="", passage_prompt="")
    assert (none.query_prompt, none.passage_prompt) == ("", "")
    assert (none == embedding) == (not query)
    assert pickle.loads(pickle.dumps(none)) == none  # noqa: S301
    assert embedding_for(embedding.model) == embedding
    assert embedding_for(none.model) == none


async def test_ollama_is_told_not_to_cut_long_texts(apis: FakeApis) -> None:
    embedding = api_embedding("ollama", apis)
    await embedding.embed("x")
    assert apis.requests[0]["truncate"] is False
    apis.answers = [(400, b'{"error": "the input length exceeds the context length"}')]
    with pytest.raises(TextRefused, match="exceeds the context length") as refused:
        await embedding.embed("word " * 600)
    assert refused.value.chunk_len == 3000
    await embedding.aclose()


@both_apis
async def test_only_so_many_requests_travel_at_once(provider: str, apis: FakeApis) -> None:
    apis.gate = threading.Barrier(2)  # lets requests go in pairs, so two must be there at once
    embedding = api_embedding(provider, apis, batch_size=1, concurrency=2)
    assert (await embedding.embed_many([str(i) for i in range(8)])).shape == (8, 8)
    assert apis.most_at_once == 2


async def test_openai_gets_its_key_and_ollama_none(apis: FakeApis) -> None:
    await api_embedding("openai", apis, api_key=KEY).embed("x")
    await api_embedding("ollama", apis).embed("x")
    openai, ollama = apis.requests
    assert (openai["path"], openai["headers"]["authorization"]) == ("/v1/embeddings", f"Bearer {KEY}")
    assert openai["encoding_format"] == "float"
    assert ollama["path"] == "/api/embed"
    assert "authorization" not in ollama["headers"]


async def test_addresses_and_keys_come_from_the_environment(apis: FakeApis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", apis.url.removeprefix("http://"))
    monkeypatch.setenv("OPENAI_BASE_URL", f"{apis.url}/compatible/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    await Embedding("ollama", "m", 8).embed("x")
    await Embedding("openai", "m", 8).embed("x")
    assert [request["path"] for request in apis.requests] == ["/api/embed", "/compatible/v1/embeddings"]
    assert apis.requests[1]["headers"]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (None, "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),  # noqa: S104
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("ollama.lan", "http://ollama.lan:11434"),
        ("https://ollama.lan/base/", "https://ollama.lan/base"),
    ],
)
def test_ollama_host_is_read_as_ollama_reads_it(
    host: str | None, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    if host is not None:
        monkeypatch.setenv("OLLAMA_HOST", host)
    source: Any = Embedding("ollama", "m", 8)._source
    assert source._base_url == address


async def test_openai_itself_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgument, match="OPENAI_API_KEY"):
        await Embedding("openai", "text-embedding-3-small", 512).embed("text")
    Embedding("openai", "m", 8, base_url="http://localhost:1234/v1")


@pytest.mark.parametrize(
    ("provider", "status", "body", "words"),
    [
        ("ollama", 404, {"error": 'model "some-model" not found, try pulling it first'}, "try pulling it first"),
        ("ollama", 400, {"error": "input length exceeds maximum context length"}, "maximum context length"),
        ("openai", 401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}}, "Incorrect"),
        ("openai", 400, {"error": {"message": "This model's maximum context length is 8192"}}, "8192"),
        ("openai", 404, {"error": None}, "did not say why"),
        ("openai", 418, [], "did not say why"),
    ],
)
async def test_a_refusal_gives_the_providers_sentence(
    provider: str, status: int, body: Any, words: str, apis: FakeApis
) -> None:
    apis.answers = [(status, json.dumps(body).encode())]
    with pytest.raises(ProviderFault, match=f"status {status}.*{words}"):
        await api_embedding(provider, apis).embed("x")
    assert len(apis.requests) == 1


@pytest.mark.parametrize("said", [KEY, "sk-very**********6789", f"Bearer {KEY} is wrong", "x" * 480 + KEY])
async def test_no_message_shows_the_key(said: str, apis: FakeApis) -> None:
    apis.answers = [(401, json.dumps({"error": {"message": f"wrong key {said}."}}).encode())]
    embedding = api_embedding("openai", apis, api_key=KEY)
    with pytest.raises(ProviderFault, match="wrong key") as raised:
        await embedding.embed("x")
    assert "very" not in f"{raised.value}{raised.value!r}{embedding!r}"
    assert "6789" not in str(raised.value)


@both_apis
async def test_passing_faults_are_tried_again(provider: str, apis: FakeApis) -> None:
    apis.answers = [(503, b""), (429, b"{}")]
    assert (await api_embedding(provider, apis).embed("x")).shape == (8,)
    assert len(apis.requests) == 3


@pytest.mark.parametrize(
    ("provider", "body", "words"),
    [
        ("ollama", b"<html>", "other than its API"),
        ("ollama", b'{"embeddings": [["x"]]}', "other than its API"),
        ("ollama", b'{"embeddings": []}', "0 vectors for 2 texts"),
        ("ollama", b'{"embeddings": [[1, 2], [1]]}', "other than its API"),
        ("openai", b'{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [2]}]}', "indexes"),
        ("openai", b'{"data": [{"index": 0, "embedding": [1]}, {"index": 5, "embedding": [2]}]}', "indexes"),
        ("openai", b'{"data": [{"index": 0, "embedding": [1]}]}', "1 vectors for 2 texts"),
        ("openai", b'{"object": "list"}', "other than its API"),
    ],
)
async def test_an_answer_that_is_none_is_a_fault_of_the_provider(
    provider: str, body: bytes, words: str, apis: FakeApis
) -> None:
    apis.answers = [(200, body)]
    with pytest.raises(ProviderFault, match=words):
        await api_embedding(provider, apis).embed_many(["x", "y"])


@both_apis
@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (b"[" + b"1," * (MAX_DIMENSIONS + 1000) + b"1]", "more numbers than"),
        (b"[" + b"[],[]," * MAX_DIMENSIONS + b"[]]", "more numbers than"),
        (b"[1e300, -1e300]", "finite"),
        (b"[1e400]", "other than its API"),
        (b"[%s]" % (b"9" * 5000), "other than its API"),
        (b"[NaN]", "other than its API"),
        (b"[null]", "other than its API"),
        (b"[" * 100_000, "other than its API"),
        (b"[]", "0 dimensions"),
    ],
    ids=range(9),
)
async def test_vectors_beyond_all_bounds_are_a_fault(provider: str, vectors: bytes, words: str, apis: FakeApis) -> None:
    body = b'{"embeddings": [%s]}' if provider == "ollama" else b'{"data": [{"index": 0, "embedding": %s}]}'
    apis.answers = [(200, body % vectors)]
    with pytest.raises(EmbeddingError, match=words):
        await api_embedding(provider, apis, dim=2 if words == "finite" else 1).embed("x")


@both_apis
async def test_an_answer_longer_than_its_vectors_can_be_is_not_read(provider: str, apis: FakeApis) -> None:
    apis.answers = [(200, b" " * (2 * MAX_DIMENSIONS * MAX_NUMBER_BYTES))]
    with pytest.raises(ProviderFault, match="more than"):
        await api_embedding(provider, apis, batch_size=1).embed("x")


async def test_vectors_of_different_lengths_are_a_fault(apis: FakeApis) -> None:
    apis.answers = [(200, b'{"embeddings": [[1, 2, 3, 4, 5, 6, 7, 8, 9]]}')]
    with pytest.raises(ProviderFault, match="different lengths"):
        await api_embedding("ollama", apis, batch_size=1, concurrency=1).embed_many(["x", "y"])


@both_apis
async def test_a_provider_that_is_not_there_is_named_with_its_address(provider: str, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    embedding = Embedding(provider, "m", 8, base_url=url, retries=Retries(attempts=1))
    with pytest.raises(ProviderFault, match=rf"(Ollama|OpenAI): cannot reach {url}"):
        await embedding.embed("x")


def test_http_providers_work_in_one_event_loop_after_another(apis: FakeApis) -> None:
    embedding = api_embedding("ollama", apis)
    for _ in range(2):
        assert asyncio.run(embedding.embed("x")).shape == (8,)


def test_the_library_of_the_http_client_logs_no_key(apis: FakeApis, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        asyncio.run(api_embedding("openai", apis, api_key=KEY).embed("a secret text"))
    assert KEY not in caplog.text
    assert "secret text" not in caplog.text
