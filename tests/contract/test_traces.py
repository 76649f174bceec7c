"""Traces for OpenTelemetry: what they say, and that they say nothing of any tenant."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.missing_tools import needs
from support.recording_proxy import found
from support.service import Http, LiveService, b64, chunk, ok, running_service
from support.toy_paillier import toy_key
from xtrace_server.storage.statement_spans import described

pytestmark = needs("OpenTelemetry (opentelemetry-exporter-otlp-proto-http)", find_spec("opentelemetry.sdk"))

MARKS = {
    "organisation": "Kirschbaumverwaltung",
    "knowledge base": "Quittenmus-Rezepte",
    "description": "Rezepte aus Oberschwaben",
    "context": "Zwetschgenkontext",
    "content": "Brombeergelee am Sonntag",
    "name": "Himbeersirup-77",
    "tag": "Stachelbeerwein",
    "facet": "Holunderbluetensaft",
    "value of a filter": "Preiselbeerkompott",
    "request id": "Mirabellenbrand",
    "path": "Pflaumenkuchen",
    "header": "Johannisbeerquark",
    "trace state": "Aprikosenmarmelade",
    "method": "BIRNENMOST",
}
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@dataclass
class Collector:
    """What a collector of OpenTelemetry was sent."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Any]:
        """Every span."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        requests = [ExportTraceServiceRequest.FromString(body) for body in self.bodies]
        return [
            span
            for request in requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """The attributes of each span of that name."""
        return [
            {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
            for span in self.spans()
            if span.name == name
        ]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A receiver of OTLP over HTTP, on a free port."""

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.path == "/v1/traces"
            assert self.headers["content-type"] == "application/x-protobuf"
            collected.bodies.append(body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collected = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield collected
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def traced(folder: Path, collector: Collector, **settings: Any) -> Iterator[tuple[LiveService, Http]]:
    """A server that sends its traces there, with a client; when the block ends, all were sent."""
    with running_service(folder, traces_endpoint=collector.url, **settings) as service:
        http = Http(service.new_organisation(MARKS["organisation"]))
        yield service, http
        http.close()


def use_everything(http: Http) -> tuple[str, list[int]]:
    """Calls whose every part has a mark; the ids of the knowledge base and the chunks."""
    names = {"name": MARKS["knowledge base"], "description": MARKS["description"]}
    kb = ok(http.control("POST", "/kbs", json=names))["id"]
    http.save_context(MARKS["context"])
    meta_data = {"tag1": MARKS["tag"], "facets": [MARKS["facet"]]}
    stored = [
        chunk(number, chunk_content=MARKS["content"], name=MARKS["name"], meta_data=meta_data) for number in range(4)
    ]
    ids = http.insert(kb, stored, MARKS["context"])
    query = [toy_key().encrypt(1)]
    assert len(http.search(kb, query, MARKS["context"])) == 4
    filtered = {"tag1": {"$in": [MARKS["tag"], MARKS["value of a filter"]]}}
    assert len(http.search(kb, query, MARKS["context"], meta_filter=filtered)) == 4
    http.get(kb, *ids)
    body = {"kb_id": kb, "context_id": MARKS["context"], "query": [b64(b"\0" * 4)]}
    refused = http.data("POST", "/compute_hamming/{org}", json=body)
    assert refused.status_code == 422
    headers = {
        "x-request-id": MARKS["request id"],
        "x-other": MARKS["header"],
        "tracestate": f"a={MARKS['trace state']}",
    }
    for path in (f"/v1/{MARKS['path']}", f"/api/v1/kbs?name={MARKS['path']}"):
        http.client.get(path, headers=headers | {"traceparent": TRACEPARENT})
    http.client.request(MARKS["method"], "/livez")
    ok(http.control("DELETE", f"/kbs/{kb}"))
    return kb, ids


def test_no_tenant_is_in_any_trace(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector, traces_context=True) as (_, http):
        kb, _ = use_everything(http)
        marks = MARKS | {"kb": kb, "org": http.org, "api key": http.credentials.api_key}
        marks["admin key"] = http.credentials.admin_key
    sent = b"".join(collector.bodies)
    assert found({name: mark.encode() for name, mark in marks.items()}, sent) == []
    names = {span.name for span in collector.spans()}
    expected = {"POST /v1/compute_hamming/{org}", "POST /v1/chunk/{org}", "_OTHER unmatched", "search prepare"}
    assert expected | {"search scan", "transaction read", "transaction write", "INSERT chunk"} <= names
    assert {"xtrace.rows": 4} in collector.attributes("search scan")
    assert 422 in {one["http.response.status_code"] for one in collector.attributes("POST /v1/compute_hamming/{org}")}
    assert not any(span.events or span.trace_state or span.status.message for span in collector.spans())


def test_what_belongs_to_a_request_is_in_its_trace(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector) as (_, http):
        use_everything(http)
    spans = collector.spans()
    (write,) = [span for span in spans if span.name == "POST /v1/chunk/{org}"]
    inside = {span.name for span in spans if span.trace_id == write.trace_id and span.parent_span_id == write.span_id}
    assert {"transaction write", "INSERT chunk", "INSERT content"} <= inside
    assert all(span.trace_id.hex() != TRACE for span in spans)


def test_a_client_decides_about_the_trace_only_if_that_is_configured(tmp_path: Path, collector: Collector) -> None:
    with traced(tmp_path / "data", collector, traces_context=True, traces_ratio=0.0) as (_, http):
        http.client.get("/livez")
        http.client.get("/livez", headers={"traceparent": TRACEPARENT})
        http.client.get("/livez", headers={"traceparent": "00-nonsense-01"})
    (span,) = [span for span in collector.spans() if span.name == "GET /livez"]
    assert span.trace_id.hex() == TRACE


def test_the_log_names_the_trace(tmp_path: Path, collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "xtrace.request")
    with traced(tmp_path / "data", collector) as (_, http):
        http.client.get("/livez")
    logged = [record.__dict__["fields"] for record in caplog.records if record.name == "xtrace.request"]
    (mine,) = [one["trace_id"] for one in logged if one["route"] == "/livez"]
    assert mine in {span.trace_id.hex() for span in collector.spans() if span.name == "GET /livez"}


def test_a_collector_that_is_away_changes_nothing(tmp_path: Path) -> None:
    away = Collector("http://127.0.0.1:9")
    with traced(tmp_path / "data", away) as (service, _):
        assert httpx2.get(f"{service.url}/readyz").status_code == 200


def test_without_the_setting_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from xtrace_server.serving import start\n"
        "from xtrace_server.settings import Settings\n"
        f"start(Settings(data=Path({str(tmp_path)!r}), port=0)).stop()\n"
        "ours = ('opentelemetry.sdk', 'opentelemetry.exporter', '_spans', 'search.traced')\n"
        "print(json.dumps([name for name in sys.modules if any(part in name for part in ours)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT chunk.pk FROM chunk WHERE x = ?", ("SELECT", "chunk")),
        ("INSERT INTO facet (a) VALUES (?)", ("INSERT", "facet")),
        ('COPY "content" (pk) FROM STDIN', ("COPY", "content")),
        ("SELECT 1 FROM secret_name", ("SELECT", "")),
        ("geheim 'word' FROM chunk", ("OTHER", "chunk")),
        ("", ("OTHER", "")),
    ],
)
def test_a_statement_is_described_by_words_of_fixed_lists(statement: str, expected: tuple[str, str]) -> None:
    assert described(statement) == expected
