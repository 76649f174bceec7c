"""What an operator sees: metrics, log lines and the audit log; and what none of them ever holds."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import databases
from support.service import Http, LiveService, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_server.logs import JsonFormatter, TextFormatter
from xtrace_server.storage import organisations

pytestmark = pytest.mark.usefixtures("database")

TOKEN = "a token of some length"
SECRETS = ("unmistakable-content", "unmistakable-tag", "unmistakable-name", "unmistakable-kb", "unmistakable-facet")
QUERY = [toy_key().encrypt(1000)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LiveService]:
    with running_service(tmp_path / "data", metrics="token", metrics_token=TOKEN) as running:
        yield running


@pytest.fixture
def http(service: LiveService) -> Iterator[Http]:
    client = Http(service.first_credentials)
    yield client
    client.close()


def work(http: Http) -> str:
    """Calls of many kinds, with things in them that must not be seen anywhere; the knowledge base's id."""
    content, tag, name, kb_name, facet = SECRETS
    http.save_context()
    kb = str(ok(http.control("POST", "/kbs", json={"name": kb_name}))["id"])
    meta_data = {"tag1": tag, "facets": [facet]}
    http.insert(kb, [chunk(i, chunk_content=content, name=name, meta_data=meta_data) for i in range(1, 4)])
    assert len(http.search(kb, QUERY, meta_filter={"tag1": tag})) == 3
    assert len(http.search(kb, QUERY)) == 3
    http.client.get(f"/{content}/{tag}")
    http.data("GET", "/chunk/{org}", params={"kb_id": kb, "projection": tag})
    http.data("POST", "/chunk/meta/{org}", json={"kb_id": kb, "context_id": "ctx", "meta_filter": {tag: content}})
    http.client.get("/api/v1/kbs", headers={"x-xtrace-key": content})
    return kb


# Metrics


def metrics(http: Http) -> dict[str, float]:
    answer = http.client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in answer.text.splitlines()
        if not line.startswith("#")
    }


def test_metrics_count_requests_rows_bytes_the_cache_and_the_database(http: Http, database: str) -> None:
    work(http)
    found = metrics(http)
    assert found['xtrace_requests_total{method="POST",route="/v1/compute_hamming/{org}",status="200"}'] == 2
    assert found['xtrace_requests_total{method="any",route="unmatched",status="404"}'] == 1
    assert found['xtrace_request_seconds_count{route="/v1/chunk/{org}"}'] >= 2
    assert found["xtrace_candidates_scanned_total"] == 6
    assert found['xtrace_refusals_total{code="invalid_filter"}'] == 1
    assert found['xtrace_memory_bytes{part="cached"}'] > 3 * 128
    assert found["xtrace_received_bytes_total"] > 1000
    assert found["xtrace_sent_bytes_total"] > 1000
    if database == databases.SQLITE:
        assert found["xtrace_database_bytes"] + found["xtrace_database_log_bytes"] > 4096
    assert found['xtrace_database_transactions_total{kind="write"}'] >= 3
    assert found["xtrace_requests_in_flight"] == 1


def test_no_metric_names_anything_of_a_tenant(http: Http) -> None:
    kb = work(http)
    text = " ".join(metrics(http))
    for secret in (*SECRETS, kb, http.org, "ctx", http.credentials.api_key[:5]):
        assert secret not in text
    names = set(re.findall(r'(\w+)="', text))
    assert names == {"route", "method", "status", "code", "rows", "kind", "le", "part"}


def test_metrics_open_to_whom_the_setting_says(http: Http, tmp_path: Path, live_service: LiveService) -> None:
    for wrong in (b"", b"Bearer x", TOKEN.encode(), b"Bearer \xff"):
        answer = http.client.get("/metrics", headers={b"authorization": wrong})
        problem(answer, 401, "unauthenticated")
    off = Http(live_service.first_credentials)
    problem(off.client.get("/metrics"), 404, "not_found")
    off.close()
    with running_service(tmp_path / "loopback", metrics="loopback") as service:
        near = Http(service.first_credentials)
        assert near.client.get("/metrics").status_code == 200
        near.close()


# Log lines


def test_every_request_is_one_line_without_anything_that_it_held(
    http: Http, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise RuntimeError(SECRETS[0])

    caplog.set_level(logging.DEBUG)
    kb = work(http)
    monkeypatch.setattr(organisations, "list_api_keys", fail)
    detail = problem(http.control("GET", "/keys", headers={"x-request-id": "mine-7"}), 500, "internal")
    assert "mine-7" in detail
    form = JsonFormatter()
    records = [record for record in caplog.records if not record.name.startswith("http")]  # the test's own client
    lines = [json.loads(form.format(record)) for record in records]
    requests = [line for line in lines if line["message"] == "request"]
    assert {"request_id", "method", "route", "status", "seconds", "bytes_in", "bytes_out"} <= set(requests[0])
    assert len({line["request_id"] for line in requests}) == len(requests)
    (fault,) = [line for line in lines if "exception" in line and line.get("request_id") == "mine-7"]
    assert fault["exception"][0] == "builtins.RuntimeError"
    assert any(step.endswith(" fail") for step in fault["exception"])
    text = json.dumps(lines) + "".join(TextFormatter().format(record) for record in records)
    for secret in (*SECRETS, kb, http.credentials.api_key, http.credentials.admin_key):
        assert secret not in text


def test_every_answer_carries_its_request_id(http: Http) -> None:
    assert http.client.get("/livez", headers={"x-request-id": "a.b-C_9"}).headers["x-request-id"] == "a.b-C_9"
    for harmful in ("", "a b", "x" * 65, "<script>", "ä"):
        given = http.client.get("/livez", headers={b"x-request-id": harmful.encode()}).headers["x-request-id"]
        assert re.fullmatch("[0-9a-f]{16}", given)


def test_a_text_line_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 1, "a\nb\x1b[2J", (), None)
    assert "\n" not in TextFormatter().format(record)
    assert "\x1b" not in TextFormatter().format(record)


# The audit log


def audit(http: Http, **params: Any) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = ok(http.control("GET", "/audit", params=params))
    return entries


def test_every_change_of_the_control_plane_is_an_entry(http: Http) -> None:
    kb = http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "x"}, headers={"x-request-id": "the-request"}))
    key = made["apiKey"]["hash"]
    ok(http.control("PUT", f"/keys/{key}/permissions/{kb}", json={"permission": 3}))
    ok(http.control("DELETE", f"/keys/{key}"))
    ok(http.control("DELETE", f"/kbs/{kb}"))
    entries = audit(http)
    assert [(entry["action"], entry["subject"]) for entry in entries] == [
        ("knowledge_base.delete", kb),
        ("api_key.revoke", key),
        ("api_key.permission", key),
        ("api_key.create", key),
        ("knowledge_base.create", kb),
        ("api_key.create", entries[5]["subject"]),
        ("organisation.create", http.org),
    ]
    assert entries[2]["detail"] == f"permission 3 in {kb}"
    assert entries[3]["requestId"] == "the-request"
    assert entries[3]["at"].endswith("Z")
    assert len({entry["actor"] for entry in entries[:5]}) == 1
    assert {entry["actor"] for entry in entries[5:]} == {"operator"}
    # What fails is no change.
    assert http.control("DELETE", f"/kbs/{kb}").status_code == 404
    assert audit(http) == entries


def test_pages_of_the_audit_log_meet(http: Http) -> None:
    for _ in range(7):
        http.new_kb()
    everything = audit(http)
    assert [entry["id"] for entry in everything] == sorted([entry["id"] for entry in everything], reverse=True)
    found = audit(http, limit=4)
    while len(found) < len(everything):
        found += audit(http, limit=4, before=found[-1]["id"])
    assert found == everything
    for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"before": -1}, {"limit": [1, 2]}):
        problem(http.control("GET", "/audit", params=wrong), 422, "invalid")


def test_denied_accesses_are_counted_and_those_of_others_are_not_seen(http: Http, service: LiveService) -> None:
    kb = http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "weak"}))
    weak = {"x-api-key": made["secretKey"]}
    url = f"/v1/chunk/{http.org}?kb_id={kb}"
    for _ in range(5):
        problem(http.client.get(url, headers=weak), 403, "forbidden")
        problem(http.client.get(url, headers={"x-api-key": "wrong"}), 401, "unauthenticated")
    problem(http.client.get("/api/v1/kbs", headers={"x-xtrace-org-id": http.org}), 401, "unauthenticated")
    problem(http.client.get("/v1/exec_context/no-such-organisation"), 401, "unauthenticated")
    denied = [entry for entry in audit(http) if entry["action"].startswith("denied")]
    by_what: dict[tuple[str, str], int] = {}
    for entry in denied:
        what = (entry["actor"], entry["detail"])
        by_what[what] = by_what.get(what, 0) + entry["count"]
    assert by_what == {
        (made["apiKey"]["hash"], "GET /v1/chunk/{org}"): 5,
        ("unknown", "GET /v1/chunk/{org}"): 5,
        ("unknown", "GET /api/v1/kbs"): 1,
    }
    assert {entry["subject"] for entry in denied if entry["action"] == "denied.forbidden"} == {kb}
    # Few entries, however often: whoever is denied does not decide how much is written.
    assert len(denied) <= 6
    other = Http(service.new_organisation())
    assert not [entry for entry in audit(other) if entry["action"].startswith("denied")]
    other.close()


def test_the_database_itself_refuses_to_change_the_audit_log(http: Http, service: LiveService) -> None:
    http.new_kb()
    service.server.stop()
    for statement in ("UPDATE audit SET actor = 'x'", "DELETE FROM audit"):
        with pytest.raises(Exception, match="only ever added to"):
            databases.execute(service.folder, statement)
