"""The OpenAPI document describes all of the service: schemathesis sends what it allows and what it does not, and every
answer is one that the document has. None is a 5xx.
"""

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.service import Http, LiveService, b64, chunk, packed, running_service
from support.toy_paillier import toy_key
from xtrace_core.wire import MSGPACK
from xtrace_server.app import all_routes

EXAMPLES = 12 if "XTRACE_TEST_FULL" in os.environ else 6
"""For each of the two dozen operations."""
STRAY = 9
"""The throw of the dice, of 0 to 9, at which a request goes as schemathesis made it, without a key that opens."""
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

ROUTES = sorted((method, route.path) for route in all_routes() for method in (route.methods or set()) - {"HEAD"})


@schemathesis.serializer(MSGPACK)
def in_messagepack(_context: Any, value: Any) -> bytes:
    """What was generated as JSON; what MessagePack cannot carry goes as something wrong."""
    try:
        return packed(value) if isinstance(value, dict) else msgspec.msgpack.encode(value)
    except (TypeError, OverflowError):
        return b"\xc1"


class Tenant:
    """An organisation with something in it, and the ways to what it has."""

    def __init__(self, service: LiveService) -> None:
        self.http = Http(service.new_organisation())
        self.other = service.new_organisation().org_id
        self.http.save_context()
        self.kb = self.http.new_kb()
        self.http.insert(self.kb, [chunk(i, meta_data={"tag1": "x", "facets": ["a"]}) for i in range(1, 4)])

    def aim(self, case: Any, dice: int) -> None:
        """Lets the request reach what is there, most of the time: random ids would all end at the same refusals."""
        known = {"org": self.http.org, "kb_id": self.kb, "context_id": "ctx", "organisation_id": self.other}
        if dice == STRAY:
            known = {"org": self.http.org}
        for name, value in known.items():
            for part in (case.path_parameters, case.query, case.body):
                if isinstance(part, dict) and isinstance(part.get(name), str):
                    part[name] = value
        if isinstance(case.body, dict) and dice % 3:
            ciphertext = b64(toy_key().encrypt(dice))
            for name in case.body.keys() & {"query", "queries"}:
                case.body[name] = [ciphertext] if name == "query" else [[ciphertext]]
            for name in ("chunks", "chunk_updates", "chunk_patches"):
                given = case.body.get(name)  # a quota of chunks is a number
                for one in given if isinstance(given, list) else ():
                    if isinstance(one, dict):
                        one["index"] = [ciphertext]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """A server of its own: what is sent replaces even its operator key."""
    with running_service(tmp_path_factory.mktemp("described") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def tenant(service: LiveService) -> Iterator[Tenant]:
    made = Tenant(service)
    yield made
    made.http.close()


@pytest.fixture(scope="module")
def described(service: LiveService) -> BaseSchema:
    """The document, as the server serves it."""
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_the_document_has_every_route(described: Any) -> None:
    paths = described.raw_schema["paths"]
    assert sorted((method.upper(), path) for path in paths for method in paths[path]) == ROUTES
    assert described.raw_schema["openapi"].startswith("3.1")


def test_what_carries_vectors_is_described_in_both_formats(described: Any) -> None:
    paths = described.raw_schema["paths"]
    packed_too = {
        (method.upper(), path): set(operation["requestBody"]["content"])
        for path in paths
        for method, operation in paths[path].items()
        if MSGPACK in operation.get("requestBody", {}).get("content", {})
    }
    chunks = {(method, "/v1/chunk/{org}") for method in ("POST", "PUT", "PATCH")}
    blocks = {("POST", "/v1/block/{org}"), ("POST", "/v1/block/search/{org}")}
    assert packed_too.keys() == chunks | blocks
    assert all(formats == {MSGPACK, "application/json"} for formats in packed_too.values())


# What takes no input cannot be given a wrong one.
CASES = [(route, mode) for route in ROUTES for mode in GenerationMode if mode.is_positive or "/v1" in route[1]]


@pytest.mark.parametrize(
    ("route", "mode"), CASES, ids=lambda part: part.value if hasattr(part, "value") else " ".join(part)
)
def test_every_answer_is_documented_and_none_is_a_fault(
    described: Any, service: LiveService, tenant: Tenant, route: tuple[str, str], mode: GenerationMode
) -> None:
    method, path = route
    operation = described[path][method]
    headers = tenant.http.control_headers if path.startswith("/api/") else tenant.http.data_headers
    if path.startswith("/api/v1/operator"):
        headers = service.operator_headers

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), dice=st.integers(0, 9))
    def run(case: Any, dice: int) -> None:
        tenant.aim(case, dice)
        if dice != STRAY:
            # Schemathesis makes keys up: they would all be wrong.
            case.headers = {name: value for name, value in (case.headers or {}).items() if name.lower() not in headers}
        answer = case.call(headers=None if dice == STRAY else headers)
        case.validate_response(answer, checks=CHECKS)

    run()
