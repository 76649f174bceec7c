"""Errors outside of routes: pages for browsers, problems in JSON for everything else."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path

import httpx2
import pytest

from support.dashboard import Visitor
from support.service import LiveService, problem, running_service
from xtrace_server.errors import (
    HeadersTooLarge,
    InvalidRequest,
    LineTooLong,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RequestTooSlow,
    ServiceError,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server that accepts one request at a time, with short headers and lines."""
    folder = tmp_path_factory.mktemp("busy") / "data"
    with running_service(folder, max_requests=1, max_header_bytes=4096, max_line_bytes=4096) as service:
        yield service


def is_page(answer: httpx2.Response, status: int, title: str) -> None:
    """Checks that an answer is an error as the dashboard shows it."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f"<h1>{title}</h1>" in answer.text
    assert "style-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"


def test_a_server_with_too_much_to_do_says_so(busy: LiveService) -> None:
    with socket.create_connection(busy.address) as connection:
        form = b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 9\r\n"
        connection.sendall(b"POST /sign-in HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n" + form + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")  # it waits for the body, and is the only one allowed
        check_overloaded(busy)


def check_overloaded(busy: LiveService) -> None:
    for path in ("/", "/knowledge-bases", "/no-such-page"):
        answer = httpx2.get(busy.url + path, headers=BROWSER)
        is_page(answer, 503, Overloaded.title)
        assert answer.headers["retry-after"]
        assert answer.headers["x-request-id"] in answer.text
    problem(httpx2.get(f"{busy.url}/", headers={"accept": "*/*"}), 503, "overloaded")
    problem(httpx2.get(f"{busy.url}/api/v1/kbs", headers=BROWSER), 503, "overloaded")


LINE = b"GET /%s HTTP/1.1\r\nhost: x\r\n"
POST = b"POST /sign-in HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n"
ACCEPT = b"accept: text/html\r\n"
KINDS: dict[str, tuple[bytes, int, type[ServiceError]]] = {
    "a long address": (LINE % (b"?find=" + b"x" * 5000) + ACCEPT, 414, LineTooLong),
    "a long path": (LINE % (b"x" * 5000) + ACCEPT, 414, LineTooLong),
    "many parameters": (LINE % (b"?" + b"a&" * 60) + ACCEPT, 413, TooLarge),
    "a long header": (LINE % b"" + ACCEPT + b"cookie: " + b"x" * 5000 + b"\r\n", 431, HeadersTooLarge),
    "a header that is none": (LINE % b"" + ACCEPT + b"x: y\r\nno header\r\n", 400, MalformedRequest),
    "a body that is too large": (POST + ACCEPT + b"content-length: 20000\r\n\r\n" + b"x" * 20_000, 413, TooLarge),
    "a form that is none": (
        POST.replace(b"x-www", b"y") + ACCEPT + b"content-length: 0\r\n",
        415,
        UnsupportedMediaType,
    ),
    "an unknown page": (LINE % b"no-such-page" + ACCEPT, 404, NotFound),
    "an unknown page below one": (LINE % b"knowledge-bases/x/y/z" + ACCEPT, 404, NotFound),
    "an unknown file": (LINE % b"static/0/x.js" + ACCEPT, 404, NotFound),
    "a NUL character": (LINE % b"keys/%00" + ACCEPT, 422, InvalidRequest),
    "a form opened as a page": (LINE % b"settings/rename" + ACCEPT, 405, MethodNotAllowed),
    "a page sent as a form": (POST.replace(b"sign-in", b"get-started") + ACCEPT, 405, MethodNotAllowed),
    "another method": (b"DELETE /sign-in HTTP/1.1\r\nhost: x\r\n" + ACCEPT, 405, MethodNotAllowed),
}


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server that accepts only little."""
    folder = tmp_path_factory.mktemp("strict") / "data"
    with running_service(folder, max_header_bytes=4096, max_line_bytes=4096, max_ids=1) as service:
        yield service


def answer_to(service: LiveService, request: bytes) -> httpx2.Response:
    """What the server sends to these bytes, and nothing after them."""
    with socket.create_connection(service.address) as connection:
        connection.sendall(request if b"\r\n\r\n" in request or not request.endswith(b"\n") else request + b"\r\n")
        return parsed(connection)


def parsed(connection: socket.socket) -> httpx2.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@pytest.mark.parametrize("kind", KINDS)
def test_every_refusal_is_a_page_for_browsers_and_json_for_others(strict: LiveService, kind: str) -> None:
    request, status, error = KINDS[kind]
    is_page(answer_to(strict, request), status, error.title)
    for accept in (b"", b"accept: */*\r\n", b"accept: application/json\r\n"):
        problem(answer_to(strict, request.replace(ACCEPT, accept)), status, error.code)


def test_what_comes_too_late_is_a_page_for_browsers_and_json_for_others(tmp_path: Path) -> None:
    header, body = LINE % b"" + ACCEPT + b"x: y\r\nz", POST + ACCEPT + b"content-length: 9\r\n"
    with running_service(tmp_path / "data", header_timeout_s=1, body_timeout_s=1) as service:
        for request in (header, body):
            is_page(answer_to(service, request), 408, RequestTooSlow.title)
            problem(answer_to(service, request.replace(ACCEPT, b"")), 408, RequestTooSlow.code)


def test_what_says_nothing_of_its_reader_is_refused_in_json(strict: LiveService) -> None:
    for request, status, code in (
        (b"nonsense\r\n\r\n", 400, "malformed"),
        (b"GET /" + b"x" * 20_000, 414, "line_too_long"),  # not one to wait for
        (LINE % b"v1/x" + ACCEPT + b"cookie: " + b"x" * 5000 + b"\r\n", 431, "headers_too_large"),
        (LINE % (b"api/" + b"x" * 5000) + ACCEPT, 414, "line_too_long"),
    ):
        problem(answer_to(strict, request), status, code)


def test_a_connection_that_is_one_too_many(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_connections=2) as service, ExitStack() as stack:
        for _ in range(2):
            busy = stack.enter_context(socket.create_connection(service.address))
            busy.sendall(POST + b"content-length: 9\r\nexpect: 100-continue\r\n\r\n")
            assert busy.recv(100).startswith(b"HTTP/1.1 100 ")
        refused = answer_to(service, LINE % b"" + ACCEPT)
        is_page(refused, 503, Overloaded.title)
        assert refused.headers["retry-after"]
        problem(answer_to(service, LINE % b""), 503, "overloaded")
        problem(answer_to(service, LINE % b"api/v1/kbs" + ACCEPT), 503, "overloaded")
        with socket.create_connection(service.address) as silent:
            problem(parsed(silent), 503, "overloaded")


def test_a_database_that_does_not_answer(busy: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def fail(*_: object) -> None:
        raise OperationalError("select", {}, Exception("disk I/O error"))

    visitor = Visitor(busy.url)
    visitor.sign_in(busy.first_credentials)
    monkeypatch.setattr("xtrace_server.storage.summaries.count_all", fail)
    answer = visitor.client.get("/settings")
    assert answer.status_code in (500, 503)
    assert "<h1>" in answer.text
    assert "disk I/O" not in answer.text
    visitor.close()


def test_a_server_that_stops_soon(visitor: Visitor, live_service: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the state itself, monkeypatch would take away what its attributes stand for.
    monkeypatch.setitem(live_service.server.app.state._state, "draining", True)
    is_page(visitor.client.get("/readyz"), 503, Unavailable.title)
    problem(visitor.client.get("/readyz", headers={"accept": "*/*"}), 503, "unavailable")


@pytest.mark.full
def test_the_port_of_the_api_has_no_pages(tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", dashboard_port=unused_tcp_port) as service:
        own = f"http://127.0.0.1:{unused_tcp_port}"
        problem(httpx2.get(f"{service.url}/no-such-page", headers=BROWSER), 404, "not_found")
        is_page(httpx2.get(f"{own}/no-such-page", headers=BROWSER), 404, NotFound.title)
