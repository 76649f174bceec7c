"""What a client does with its connection: slow, ambiguous, greedy, gone. The server bounds each, and goes on."""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import msgspec
import pytest

from support.service import Http, LiveService, b64, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_server.http import protocol as http_protocol
from xtrace_server.http.envelope import SECURITY_HEADERS
from xtrace_server.storage import knowledge_bases

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server without patience."""
    times = {"header_timeout_s": 0.4, "body_timeout_s": 0.4, "write_timeout_s": 0.6, "request_timeout_s": 1.0}
    folder = tmp_path_factory.mktemp("network") / "data"
    with running_service(folder, min_body_bytes_per_s=10_000, max_connections=40, max_requests=20, **times) as running:
        yield running


@pytest.fixture
def http(service: LiveService) -> Iterator[Http]:
    client = Http(service.new_organisation())
    yield client
    client.close()


class Raw:
    """A connection on which a test says what it likes."""

    def __init__(self, service: LiveService, **options: int) -> None:
        address = urlsplit(service.url)
        self._socket = socket.socket()
        for name, value in options.items():
            self._socket.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        self._socket.settimeout(20)
        self._socket.connect((address.hostname, address.port or 0))

    def __enter__(self) -> "Raw":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self, *, reset: bool = True) -> bytes:
        """Everything until the server closes the connection; `reset` says whether it may be reset."""
        heard = b""
        try:
            while part := self._socket.recv(65536):
                heard += part
        except ConnectionResetError:
            assert reset
        return heard


def refusal(heard: bytes) -> tuple[int, str]:
    """Status and code of the only answer."""
    head, _, body = heard.partition(b"\r\n\r\n")
    assert heard.count(b"HTTP/1.1 ") == 1, heard
    assert b"application/problem+json" in head
    assert b"connection: close" in head
    assert b"x-content-type-options: nosniff" in head
    return int(head.split()[1]), str(msgspec.json.decode(body)["code"])


# Slow


@pytest.mark.parametrize(
    "beginning", [b"", b"GET /live", b"GET /livez HTTP/1.1\r\nhost: a\r\n", b"POST /api/v1/kbs HTTP/1.1\r\nx: "]
)
def test_a_header_that_does_not_come_ends_the_connection(service: LiveService, beginning: bytes) -> None:
    with Raw(service) as raw:
        raw.say(beginning)
        began = time.monotonic()
        assert refusal(raw.hear()) == (408, "request_timeout")
        assert time.monotonic() - began < 5


def test_a_header_that_comes_by_drops_is_late_all_the_same(service: LiveService) -> None:
    with Raw(service) as raw:
        began = time.monotonic()
        try:
            for letter in b"GET /livez HTTP/1.1\r\nhost: " + b"a" * 1000:
                raw.say(bytes([letter]))
                time.sleep(0.02)
        except OSError:
            pass
        assert time.monotonic() - began < 5
        heard = raw.hear()
        assert not heard or refusal(heard) == (408, "request_timeout")


def post(http: Http, length: int, extra: str = "") -> bytes:
    head = f"POST /api/v1/kbs HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{extra}"
    return (head + "".join(f"{name}: {value}\r\n" for name, value in http.control_headers.items()) + "\r\n").encode()


def test_a_body_that_does_not_come_ends_the_connection(service: LiveService, http: Http) -> None:
    with Raw(service) as raw:
        raw.say(post(http, 1000) + b'{"name":')
        assert refusal(raw.hear()) == (408, "request_timeout")


def test_a_body_may_take_the_time_that_its_bytes_need(service: LiveService, http: Http) -> None:
    body = b'{"name": "' + b"x" * 20_000 + b'"}'
    with Raw(service) as raw:
        raw.say(post(http, len(body), "connection: close\r\n"))
        for i in range(0, len(body), 2000):
            time.sleep(0.1)
            raw.say(body[i : i + 2000])
        assert raw.hear().startswith(b"HTTP/1.1 200")


def test_a_body_that_nobody_wants_is_not_waited_for(service: LiveService) -> None:
    with Raw(service) as raw:
        raw.say(b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nx")
        began = time.monotonic()
        assert raw.hear().startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began < 10


def test_an_answer_that_is_not_read_is_cut_off_and_holds_nothing(service: LiveService, http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    for _ in range(20):
        http.insert(kb, [chunk(chunk_content="x" * 1_000_000)])
    ids = "&".join(f"chunk_ids={i}" for i in range(1, 21))
    request = f"GET /v1/chunk/{http.org}?kb_id={kb}&{ids} HTTP/1.1\r\nhost: a\r\n"
    with Raw(service, SO_RCVBUF=4096) as raw:
        raw.say(f"{request}x-api-key: {http.credentials.api_key}\r\n\r\n".encode())
        # Meanwhile others write to the same knowledge base, and delete from it: the reader has no transaction open.
        assert http.insert(kb, [chunk(5)]) == [21]
        assert ok(http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [1, 2]}))["deleted_count"] == 2
        time.sleep(2)
        heard = raw.hear()
    assert heard.startswith(b"HTTP/1.1 200")
    assert len(heard) < 15_000_000, "the whole answer came although it was not read in time"


# Refused while still sending


def sent_and_heard(service: LiveService, parts: Iterable[bytes]) -> bytes:
    """What a client hears that looks for an answer only when it has sent everything, as most do. Raises
    `ConnectionError`, with which many clients forget what they have heard."""
    with Raw(service) as raw:
        for part in parts:
            raw.say(part)
        return raw.hear(reset=False)


def slowly(part: bytes, times: int) -> Iterator[bytes]:
    for _ in range(times):
        time.sleep(0.01)
        yield part


@pytest.mark.parametrize("number", range(8))
def test_a_refusal_reaches_a_client_that_is_still_sending(service: LiveService, http: Http, number: int) -> None:
    long_line = b"GET /livez?" + b"x" * (8 * 2**20) + b" HTTP/1.1\r\nhost: a\r\n\r\n"
    assert refusal(sent_and_heard(service, [long_line])) == (414, "line_too_long")
    no_http = b"\1" * 2**20
    assert refusal(sent_and_heard(service, [no_http])) == (400, "malformed")
    large_body = itertools.chain([post(http, 65 * 2**20)], itertools.repeat(b"x" * 2**18, 4 * 40 + number))
    assert refusal(sent_and_heard(service, large_body)) == (413, "too_large")


def test_a_client_that_never_stops_sending_is_cut_off(service: LiveService, http: Http) -> None:
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        sent_and_heard(service, itertools.chain([b"GET /livez?" + b"x" * 2**21], slowly(b"x" * 1000, 3000)))
    assert time.monotonic() - began < http_protocol.LINGER_S + 3
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        sent_and_heard(service, itertools.chain([post(http, 2**40)], itertools.repeat(b"x" * 2**20, 10_000)))
    assert time.monotonic() - began < http_protocol.LINGER_S + 3, "the server read on and on"


def test_a_refused_client_that_falls_silent_is_cut_off_soon(service: LiveService) -> None:
    began = time.monotonic()
    with Raw(service) as raw:
        raw.say(b"\1\r\n\r\n")
        assert refusal(raw.hear()) == (400, "malformed")
        assert time.monotonic() - began < 1, "the answer itself waits for nothing"
        time.sleep(2.5 * http_protocol.LINGER_IDLE_S)
        raw.say(b"x")
        time.sleep(0.2)
        with pytest.raises(ConnectionError):
            raw.say(b"x")


# Ambiguous

_HOST = b"POST /livez HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        _HOST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        _HOST + b"content-length: 5, 6\r\n\r\nhello",
        _HOST + b"content-length: +5\r\n\r\nhello",
        _HOST + b"content-length: -1\r\n\r\n",
        _HOST + b"content-length: 0x5\r\n\r\nhello",
        _HOST + b"content-length: 99999999999999999999999\r\n\r\nhello",
        _HOST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding: chunked\r\n\r\n5x\r\nhello\r\n0\r\n\r\n",
        _HOST + b"transfer-encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n",
        _HOST + b"x: a\r\n continued: b\r\n\r\n",
        _HOST + b"x: a\rb: c\r\n\r\n",
        _HOST + b"x: a\0b\r\n\r\n",
        _HOST + b"x y: a\r\n\r\n",
        _HOST + b": a\r\n\r\n",
    ],
)
def test_a_request_whose_end_is_ambiguous_is_refused(service: LiveService, request_: bytes) -> None:
    with Raw(service) as raw:
        # What is smuggled behind must not be answered: there is exactly one answer.
        raw.say(request_ + b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n")
        assert refusal(raw.hear()) in ((400, "malformed"), (405, "method_not_allowed"))


def test_an_upgrade_is_not_taken(service: LiveService) -> None:
    with Raw(service) as raw:
        raw.say(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n")
        assert raw.hear().startswith(b"HTTP/1.1 200")


# Greedy


def test_a_new_connection_takes_the_place_of_the_one_that_waited_longest(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_connections=40) as service, ExitStack() as stack:
        held = [stack.enter_context(Raw(service)) for _ in range(40)]
        for raw in held[1:]:
            raw.say(b"GET /livez HTTP/1.1\r\nhost: a\r\n")
        for _ in range(5):
            assert httpx2.get(f"{service.url}/livez").status_code == 200
        assert held[0].hear() == b""
        held[-1].say(b"connection: close\r\n\r\n")
        assert held[-1].hear().startswith(b"HTTP/1.1 200")


def test_where_every_connection_has_a_request_another_is_put_off(tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", max_connections=3, ops_port=unused_tcp_port, metrics="loopback") as service:
        http = Http(service.first_credentials)
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(Raw(service)).say(post(http, 1000) + b'{"name":')
            with Raw(service) as another:
                assert refusal(another.hear()) == (503, "overloaded")
            probes = f"http://127.0.0.1:{unused_tcp_port}"
            for path in ("/livez", "/readyz", "/metrics"):
                assert httpx2.get(probes + path).status_code == 200
            foreign = httpx2.get(f"{probes}/api/v1/kbs", headers=http.control_headers)
            assert (foreign.status_code, foreign.json()["code"]) == (404, "not_found")
        http.close()


def test_one_organisation_cannot_have_every_request(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_requests_each=2) as service:
        one, other = Http(service.first_credentials), Http(service.new_organisation())
        with ExitStack() as stack:
            while (answer := one.control("GET", "/kbs")).status_code == 200:
                # Of those that meet a call of this loop one may be refused itself.
                stack.enter_context(Raw(service)).say(post(one, 1000) + b'{"name":')
            assert "max_requests_each" in problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"]
            assert ok(other.control("GET", "/kbs")) == []
        while (answer := one.control("GET", "/kbs")).status_code == 503:
            pass  # until the server has seen that they are gone
        assert ok(answer) == []
        one.close()
        other.close()


def test_more_requests_than_allowed_are_put_off(service: LiveService, http: Http, stuck: threading.Event) -> None:
    statuses: list[int] = []

    def ask() -> None:
        with httpx2.Client() as client:
            answer = client.get(f"{service.url}/api/v1/kbs", headers=http.control_headers, timeout=20)
            statuses.append(answer.status_code)
            if answer.status_code == 503:
                assert answer.headers["retry-after"]
                assert answer.json()["code"] in ("overloaded", "deadline_exceeded")

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [503] * 30
    stuck.set()
    assert httpx2.get(f"{service.url}/api/v1/kbs", headers=http.control_headers).status_code == 200


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Lists of knowledge bases take for ever, until the event is set."""
    freed, known = threading.Event(), knowledge_bases.list_all

    async def wait(*arguments: Any, **more: Any) -> Any:
        while not freed.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        return await known(*arguments, **more)

    monkeypatch.setattr(knowledge_bases, "list_all", wait)
    yield freed
    freed.set()


def test_a_request_has_a_deadline_and_leaves_nothing_behind(http: Http, stuck: threading.Event) -> None:
    began = time.monotonic()
    assert "request_timeout_s" in problem(http.control("GET", "/kbs"), 503, "deadline_exceeded")
    assert 0.9 < time.monotonic() - began < 5
    stuck.set()
    # Its connection to the database is free again: many more than there are connections.
    for _ in range(12):
        assert ok(http.control("GET", "/kbs")) == []


def test_a_write_that_is_given_up_stores_nothing(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    known = knowledge_bases.record_write

    async def slow(*arguments: Any, **more: Any) -> None:
        await known(*arguments, **more)
        await asyncio.sleep(30)

    http.save_context()
    kb = http.new_kb()
    with monkeypatch.context() as patched:
        patched.setattr(knowledge_bases, "record_write", slow)
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
        problem(http.data("POST", "/chunk/{org}", json=body), 503, "deadline_exceeded")
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 0
    assert http.insert(kb, [chunk()]) == [1]


# Gone


def test_clients_that_hang_up_leave_nothing_behind(service: LiveService, http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk(i % 5 + 1) for i in range(500)])
    body = msgspec.json.encode({"kb_id": kb, "context_id": "ctx", "query": [b64(toy_key().encrypt(1))]})
    head = f"POST /v1/compute_hamming/{http.org} HTTP/1.1\r\nhost: a\r\nx-api-key: {http.credentials.api_key}\r\n"
    request = (head + f"content-length: {len(body)}\r\n\r\n").encode() + body
    for end in (len(request) - 1, len(request) // 2, len(request), len(request)):
        for _ in range(5):
            with Raw(service) as raw:
                raw.say(request[:end])
    assert len(http.search(kb, [toy_key().encrypt(1)])) == 500


# Browsers


def test_every_answer_has_security_headers_and_none_allows_other_origins(service: LiveService, http: Http) -> None:
    origin = {"origin": "https://evil.example"}
    answers = [
        http.client.get("/livez", headers=origin),
        http.client.get("/nowhere", headers=origin),
        http.control("GET", "/kbs", headers=origin),
        http.client.get("/api/v1/kbs", headers=origin),
        http.client.options("/api/v1/kbs", headers={**origin, "access-control-request-method": "POST"}),
        http.client.get("/livez", headers={"x": "y" * 70_000}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 401, 405, 431]
    for answer in answers:
        assert SECURITY_HEADERS.items() <= dict(answer.headers).items()
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "server" not in answer.headers


def test_stopping_finishes_what_is_in_flight(tmp_path: Path) -> None:
    answers: list[int] = []
    with running_service(tmp_path / "data") as service:
        http = Http(service.first_credentials)
        http.save_context()
        kb = http.new_kb()
        body = b'{"kb_id": "%s", "context_id": "ctx", "chunks": [' % kb.encode()
        body += b",".join([msgspec.json.encode(chunk()) for _ in range(5)]) + b"]}"
        halfway = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield body[:100]
            halfway.set()
            time.sleep(0.5)
            yield body[100:]

        def insert() -> None:
            with httpx2.Client() as client:
                url = f"{service.url}/v1/chunk/{http.org}"
                headers = http.data_headers | {"content-length": str(len(body))}
                answers.append(client.post(url, content=slowly(), headers=headers).status_code)

        thread = threading.Thread(target=insert)
        thread.start()
        halfway.wait()
        time.sleep(0.1)
    thread.join()
    http.close()
    assert answers == [200]
    with running_service(tmp_path / "data") as service:
        http = Http(service.first_credentials)
        assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 5
        http.close()
