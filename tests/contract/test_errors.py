"""Every way to fail has one form: unknown routes, wrong methods, bad bodies, requests that are no HTTP."""

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from support.service import Http, LiveService, ok, problem, running_service
from xtrace_server import errors
from xtrace_server.storage import organisations

pytestmark = pytest.mark.usefixtures("database")


def test_unknown_routes_and_wrong_methods(http: Http) -> None:
    problem(http.client.get("/nowhere"), 404, "not_found")
    problem(http.client.get("/v1/chunk/a/b/c/d"), 404, "not_found")
    answer = http.client.put("/livez")
    assert "PUT" in problem(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
    problem(http.control("GET", "/kbs/"), 404, "not_found")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b'{"name": 3, ', 400, "malformed"),
        (b'{"name": "\xff"}', 400, "malformed"),
        (b'{"name": "\\ud800"}', 400, "malformed"),
        (b"[" * 100_000, 422, "invalid"),
        (b'{"name": NaN}', 400, "malformed"),
        (b"null", 422, "invalid"),
        (b"[]", 422, "invalid"),
        (b'{"description": "x"}', 422, "invalid"),
        (b'{"name": 1e999}', 422, "invalid"),
        (b'{"name": "a\\u0000"}', 422, "invalid"),
        (b'{"name": "a\\\\u0000"}', 200, ""),
        (b'{"name": "x", "more": [[[[]]]]}', 200, ""),
    ],
)
def test_a_body_is_malformed_or_invalid(http: Http, content: bytes, status: int, code: str) -> None:
    answer = http.control("POST", "/kbs", content=content, headers={"content-type": "application/json"})
    if status == 200:
        ok(answer)
    else:
        assert answer.status_code == status, answer.text
        problem(answer, status, code)


def test_a_body_that_nests_too_deep_is_refused(http: Http) -> None:
    deep = b'{"kb_id": "k", "context_id": "c", "meta_filter": ' + b'{"$not":' * 20_000 + b"{}" + b"}" * 20_001
    answer = http.data("POST", "/chunk/meta/{org}", content=deep)
    problem(answer, 422, "invalid")
    deep = b'{"kb_id": "k", "context_id": "c", "meta_filter": ' + b'{"$not":' * 40 + b"{}" + b"}" * 41
    assert "deeper" in problem(http.data("POST", "/chunk/meta/{org}", content=deep), 422, "invalid_filter")


def test_a_body_must_be_json_where_one_is_present(http: Http) -> None:
    for media_type in ("application/octet-stream", "text/plain", "multipart/form-data; boundary=x"):
        answer = http.control("POST", "/kbs", content=b"{}", headers={"content-type": media_type})
        problem(answer, 415, "unsupported_media_type")
        answer = http.control("POST", "/kbs", content=b"", headers={"content-type": media_type})
        problem(answer, 400, "malformed")
    for media_type in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"):
        ok(http.control("POST", "/kbs", content=b'{"name": "x"}', headers={"content-type": media_type}))
    packed = http.control("POST", "/kbs", content=b"{}", headers={"content-encoding": "gzip"})
    problem(packed, 415, "unsupported_media_type")


def test_a_body_has_a_limit_announced_or_not(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", max_body_bytes=2000) as service:
        http = Http(service.first_credentials)
        problem(http.control("POST", "/kbs", content=b"x" * 2001), 413, "too_large")
        problem(http.control("POST", "/kbs", content=iter([b"x" * 1500] * 2)), 413, "too_large")
        ok(http.control("POST", "/kbs", content=b'{"name": "' + b"x" * 1000 + b'"}'))
        http.close()


def raw(live_service: LiveService, data: bytes) -> tuple[int, bytes]:
    """The status and the body that a server answers on a socket."""
    address = urlsplit(live_service.url)
    with socket.create_connection((address.hostname, address.port or 0), timeout=10) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"200 OK" in head or b"application/problem+json" in head
    return int(head.split()[1]), body


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"garbage\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "malformed"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "malformed"),
        (b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400, "malformed"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 400, "malformed"),
        (b"GET /livez?" + b"a&" * 500_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 413, "too_large"),
        (b"GET /?" + b"a" * 1_100_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414, "line_too_long"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400, "malformed"),
    ],
)
def test_what_the_parser_refuses_has_the_same_form(
    live_service: LiveService, request_: bytes, status: int, code: str
) -> None:
    got, body = raw(live_service, request_)
    assert (got, msgspec.json.decode(body)["code"]) == (status, code)


def test_a_request_line_may_be_a_mebibyte_long(live_service: LiveService) -> None:
    line = b"GET /livez?" + b"a=1&" * 1000 + b"b=" + b"1" * (2**20 - 4100)
    status, _ = raw(live_service, line + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert status == 200


def test_an_internal_fault_tells_nothing(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(organisations, "list_api_keys", fail)
    assert "secret" not in problem(http.control("GET", "/keys"), 500, "internal")


def test_the_drawn_tree_of_errors_is_complete() -> None:
    classes = [errors.ServiceError]
    for one in classes:
        classes += one.__subclasses__()
    drawn = errors.__doc__ or ""
    for one in classes[1:]:
        assert re.search(rf"── {one.__name__} +", drawn), one
        if one is not errors.Conflict:
            assert one.code in drawn
    codes = [one.code for one in classes if one.code != "internal"]
    assert len(codes) == len(set(codes))
