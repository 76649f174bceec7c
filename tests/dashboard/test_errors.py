"""Errors outside of routes: pages for browsers, problems in JSON for everything else."""

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from support.dashboard import HTML, Visitor
from support.service import LiveService, problem, running_service
from xtrace_server.errors import HeadersTooLarge, NotFound, Overloaded, ServiceError, TooLarge, Unavailable

BROWSER = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server that accepts one request at a time, with short headers and lines."""
    folder = tmp_path_factory.mktemp("busy") / "data"
    with running_service(folder, max_requests=1, max_header_bytes=4096, max_line_bytes=4096) as service:
        yield service


def title_of(error: type[ServiceError]) -> str:
    return error.title


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
        is_page(answer, 503, title_of(Overloaded))
        assert answer.headers["retry-after"]
        assert answer.headers["x-request-id"] in answer.text
    problem(httpx2.get(f"{busy.url}/", headers={"accept": "*/*"}), 503, "overloaded")
    problem(httpx2.get(f"{busy.url}/api/v1/kbs", headers=BROWSER), 503, "overloaded")


def test_a_header_that_is_too_long(busy: LiveService) -> None:
    long = {"cookie": "x" * 5000}
    is_page(httpx2.get(busy.url, headers={**BROWSER, **long}), 431, title_of(HeadersTooLarge))
    problem(httpx2.get(busy.url, headers=long), 431, "headers_too_large")
    problem(httpx2.get(f"{busy.url}/v1/x", headers={**BROWSER, **long}), 431, "headers_too_large")


def test_what_comes_before_the_header_is_refused_in_json(busy: LiveService) -> None:
    """The server does not know yet who asks."""
    problem(httpx2.get(f"{busy.url}/?find={'x' * 5000}", headers=BROWSER), 414, "line_too_long")
    with socket.create_connection(busy.address) as connection:
        connection.sendall(b"nonsense\r\n\r\n")
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer


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


def test_a_form_that_is_too_large(busy: LiveService) -> None:
    form = {**HTML, "content-type": "application/x-www-form-urlencoded"}
    answer = httpx2.post(f"{busy.url}/sign-in", headers=form, content=b"key=" + b"a" * 20_000)
    is_page(answer, 413, title_of(TooLarge))
    answer = httpx2.post(f"{busy.url}/sign-in", headers={"content-type": form["content-type"]}, content=b"a" * 20_000)
    problem(answer, 413, "too_large")


@pytest.mark.parametrize("path", ["/no-such-page", "/knowledge-bases/x/y/z", "/operator/x", "/settings/rename", "/%00"])
def test_a_page_that_does_not_exist(visitor: Visitor, path: str) -> None:
    shown = visitor.client.get(path)
    assert shown.status_code in (404, 405, 422)
    assert "<h1>" in shown.text
    answer = visitor.client.get(path, headers={"accept": "application/json"})
    assert answer.status_code == shown.status_code
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_server_that_stops_soon(visitor: Visitor, live_service: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of the state itself, monkeypatch would take away what its attributes stand for.
    monkeypatch.setitem(live_service.server.app.state._state, "draining", True)
    is_page(visitor.client.get("/readyz"), 503, title_of(Unavailable))
    problem(visitor.client.get("/readyz", headers={"accept": "*/*"}), 503, "unavailable")


@pytest.mark.full
def test_the_port_of_the_api_has_no_pages(tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", dashboard_port=unused_tcp_port) as service:
        own = f"http://127.0.0.1:{unused_tcp_port}"
        problem(httpx2.get(f"{service.url}/no-such-page", headers=BROWSER), 404, "not_found")
        is_page(httpx2.get(f"{own}/no-such-page", headers=BROWSER), 404, title_of(NotFound))
