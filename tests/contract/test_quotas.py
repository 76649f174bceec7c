"""Quotas of an organisation, and the sums that they are checked against: exact after every write, never exceeded."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from support.recount import kept, recounted
from support.service import Http, LiveService, b64, chunk, ok, problem, running_service
from support.toy_paillier import toy_key
from xtrace_sdk.errors import PermissionDenied, QuotaExceeded
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.storage import usage

POSTGRES_BY_DEFAULT = True

PUBLIC = msgspec.to_builtins(toy_key().context_data)
NONE = {"chunks": None, "bytes": None, "contexts": None, "requestsPerMinute": None, "requestsPerDay": None}


class Tenant(Http):
    """An organisation, and what its server's operator sees and sets of it."""

    def __init__(self, service: LiveService) -> None:
        super().__init__(service.new_organisation())
        self.service = service

    def _operator(self, method: str, path: str = "", **arguments: Any) -> httpx2.Response:
        headers = self.service.operator_headers
        return self.client.request(
            method, f"/api/v1/operator/organisations/{self.org}{path}", headers=headers, **arguments
        )

    @property
    def usage(self) -> dict[str, int]:
        found: dict[str, int] = ok(self._operator("GET"))["usage"]
        return found

    def quotas(self, **quotas: int | None) -> dict[str, Any]:
        found: dict[str, Any] = ok(self._operator("PATCH", "/quotas", json=quotas))["quotas"]
        return found

    def set(self, body: Any) -> httpx2.Response:
        return self._operator("PATCH", "/quotas", json=body)

    def check(self) -> dict[str, int]:
        """The usage, which is what counting finds."""
        counted = recounted(self.service.folder, self.org)
        assert kept(self.service.folder, self.org) == counted
        assert {name: self.usage[name] for name in counted} == counted
        return counted

    def insertion(self, kb: str, count: int, **fields: Any) -> httpx2.Response:
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(**fields) for _ in range(count)]}
        return self.data("POST", "/chunk/{org}", json=body)


@pytest.fixture
def tenant(live_service: LiveService) -> Iterator[Tenant]:
    made = Tenant(live_service)
    yield made
    made.close()


def test_the_sums_are_exact_after_every_kind_of_write(tenant: Tenant) -> None:
    assert tenant.check() == {"chunks": 0, "bytes": 0, "contexts": 0}
    for context in ("ctx", "other"):
        tenant.save_context(context)
    tenant.check()
    kb, second = tenant.new_kb(), tenant.new_kb()
    assert tenant.usage["knowledgeBases"] == 2
    rich: dict[str, Any] = {
        "chunk_content": "Käse \N{CHEESE WEDGE}",
        "name": "näme",
        "meta_data": {"tag1": "größe", "tag5": "", "facets": ["a", "ä", "a"]},
        "nonce": b64(b"n" * 14),
    }
    ids = tenant.insert(
        kb, [chunk(2, **rich), chunk(3), chunk(4, name="plain", meta_data={"tag2": None, "facets": []})]
    )
    assert tenant.check()["chunks"] == 3
    for name, on_conflict in (("u", "fail"), ("u", "replace"), ("u", "skip"), ("v", "skip")):
        one = chunk(5, name=name, chunk_content=on_conflict * 10, meta_data={"facets": [on_conflict]})
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [one], "on_conflict": on_conflict}
        ok(tenant.data("POST", "/chunk/{org}", json=body))
        tenant.check()
    update = {"chunk_id": ids[0], **chunk(6, chunk_content="moved", meta_data={"facets": ["new", "facets"]})}
    ok(tenant.data("PUT", "/chunk/{org}", json={"kb_id": kb, "context_id": "other", "chunk_updates": [update]}))
    tenant.check()
    for patch in (
        {"chunk_content": "patched content"},
        {"name": None},
        {"meta_data": {"tag1": "x" * 99, "tag5": None, "facets": None}},
        {"meta_data": {"facets": ["y" * 9, "y" * 9, "z"]}},
        {"nonce": b64(b"m" * 32)},
        {"index": chunk(9)["index"]},
        {},
    ):
        body = {"kb_id": kb, "context_id": "ctx", "chunk_patches": [{"chunk_id": ids[1], **patch}]}
        ok(tenant.data("PATCH", "/chunk/{org}", json=body))
        tenant.check()
    scope = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}}
    ok(tenant.data("PATCH", "/chunk/by-meta/{org}", json={**scope, "patch": {"tag3": "everywhere", "facets": ["q"]}}))
    tenant.check()
    ok(tenant.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [ids[2], 99]}))
    tenant.check()
    ok(tenant.data("DELETE", "/chunk/by-meta/{org}", json={**scope, "meta_filter": {"facets": "q"}}))
    assert tenant.check()["chunks"] == 1
    tenant.insert(second, [chunk(i) for i in range(1, 8)])
    before = tenant.check()
    ok(tenant.control("DELETE", f"/kbs/{second}"))
    assert tenant.check()["chunks"] == before["chunks"] - 7
    assert tenant.usage["knowledgeBases"] == 1


def test_a_large_deletion_frees_at_once(tenant: Tenant) -> None:
    tenant.save_context()
    kb = tenant.new_kb()
    empty = tenant.check()
    tenant.insert(kb, [chunk(meta_data={"tag1": "x"})] * 1500)
    assert tenant.check()["chunks"] == 1500
    scope = {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": "x"}}
    ok(tenant.data("DELETE", "/chunk/by-meta/{org}", json=scope))
    assert tenant.check() == empty
    tenant.insert(kb, [chunk()] * 3)
    assert tenant.check()["chunks"] == 3


def test_contexts_count_with_their_bytes(tenant: Tenant) -> None:
    def save(context_id: str, **fields: Any) -> None:
        name = fields.pop("name", None)
        body = {"context_id": context_id, "data": PUBLIC | fields, "name": name}
        ok(tenant.data("POST", "/exec_context/{org}", json=body))
        tenant.check()

    save("a")
    save("a", sk="s" * 100, key_provider="p", wrapped_key="wé")
    save("a", sk="s")
    save("a")
    save("b", name="named")
    assert tenant.check()["contexts"] == 2
    for context_id in ("a", "b"):
        ok(tenant.data("DELETE", f"/exec_context/{{org}}/{context_id}"))
        tenant.check()
    assert tenant.check() == {"chunks": 0, "bytes": 0, "contexts": 0}


def test_quotas_are_none_until_set_and_stay_until_changed(tenant: Tenant) -> None:
    assert tenant.quotas() == NONE
    assert tenant.quotas(chunks=5, requestsPerDay=1000) == NONE | {"chunks": 5, "requestsPerDay": 1000}
    assert tenant.quotas(bytes=2**62) == NONE | {"chunks": 5, "requestsPerDay": 1000, "bytes": 2**62}
    assert tenant.quotas(chunks=None, contexts=0) == NONE | {
        "contexts": 0,
        "requestsPerDay": 1000,
        "bytes": 2**62,
    }
    said = [entry for entry in ok(tenant.control("GET", "/audit")) if entry["action"] == "organisation.quotas"]
    assert [entry["detail"] for entry in said] == [
        "chunks none, contexts 0",
        f"bytes {2**62}",
        "chunks 5, requests_per_day 1000",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"chunks": -1},
        {"chunks": 2**63},
        {"chunks": 1.5},
        {"chunks": "5"},
        {"chunks": True},
        {"chunks": [5]},
        {"requests_per_day": 5},
        {"chunk": 5},
        {"chunks": 5, "more": 1},
        [],
    ],
)
def test_a_wrong_quota_changes_nothing(tenant: Tenant, wrong: Any) -> None:
    problem(tenant.set(wrong), 422, "invalid")
    assert tenant.quotas() == NONE


def test_chunks_are_stored_up_to_the_quota_and_no_further(tenant: Tenant) -> None:
    tenant.save_context()
    kb, second = tenant.new_kb(), tenant.new_kb()
    tenant.quotas(chunks=5)
    ok(tenant.insertion(kb, 3))
    said = problem(tenant.insertion(second, 3), 403, "quota_exceeded")
    assert said.startswith("the organisation may store 5 chunks and has 3; this would add 3, so nothing was stored: ")
    assert tenant.check()["chunks"] == 3
    ok(tenant.insertion(second, 2))
    problem(tenant.insertion(kb, 1), 403, "quota_exceeded")
    ok(tenant.insertion(kb, 0))
    # What does not add a chunk goes on.
    one = {"chunk_id": 1, "meta_data": {"tag1": "x"}}
    ok(tenant.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": [one]}))
    ok(tenant.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}))
    ok(tenant.insertion(kb, 1))
    ok(tenant.control("DELETE", f"/kbs/{second}"))
    ok(tenant.insertion(kb, 2))
    problem(tenant.insertion(kb, 1), 403, "quota_exceeded")
    tenant.quotas(chunks=None)
    ok(tenant.insertion(kb, 1))
    assert tenant.check()["chunks"] == 6
    denied = [entry for entry in ok(tenant.control("GET", "/audit")) if entry["action"] == "denied.quota_exceeded"]
    assert sum(entry["count"] for entry in denied) == 3
    assert {entry["detail"] for entry in denied} == {"POST /v1/chunk/{org}"}


def test_a_quota_below_what_is_stored_takes_nothing_away(tenant: Tenant) -> None:
    tenant.save_context()
    kb = tenant.new_kb()
    ok(tenant.insertion(kb, 5))
    tenant.quotas(chunks=2, bytes=1, contexts=0)
    assert len(tenant.get(kb, *range(1, 6))) == 5
    assert len(tenant.search(kb, [toy_key().encrypt(1)])) == 5
    problem(tenant.insertion(kb, 1), 403, "quota_exceeded")
    ok(tenant.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": [1, 2, 3]}))
    shorter = {"chunk_id": 4, "chunk_content": "c"}
    ok(tenant.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": [shorter]}))
    problem(tenant.insertion(kb, 1), 403, "quota_exceeded")
    tenant.save_context()  # the same again
    assert tenant.check()["chunks"] == 2


def test_bytes_are_stored_up_to_the_quota_whatever_they_are_of(tenant: Tenant) -> None:
    tenant.save_context()
    kb = tenant.new_kb()
    ok(tenant.insertion(kb, 2))
    room = 1000
    tenant.quotas(bytes=tenant.check()["bytes"] + room)
    long = "x" * (room + 100)
    patches = ({"chunk_content": "content 1" + long}, {"name": long}, {"meta_data": {"tag1": long}})
    for patch in (*patches, {"meta_data": {"facets": [long]}}):
        one = {"chunk_id": 1, **patch}
        answer = tenant.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": [one]})
        assert "bytes" in problem(answer, 403, "quota_exceeded")
    update = {"chunk_id": 1, **chunk(chunk_content=long)}
    answer = tenant.data("PUT", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_updates": [update]})
    problem(answer, 403, "quota_exceeded")
    by_meta = {"kb_id": kb, "context_id": "ctx", "meta_filter": {}, "patch": {"tag2": "x" * (room // 2 + 1)}}
    problem(tenant.data("PATCH", "/chunk/by-meta/{org}", json=by_meta), 403, "quota_exceeded")
    secret = {"context_id": "ctx", "data": PUBLIC | {"sk": long}}
    problem(tenant.data("POST", "/exec_context/{org}", json=secret), 403, "quota_exceeded")
    problem(tenant.insertion(kb, 1, chunk_content=long), 403, "quota_exceeded")
    named = chunk(name="u", chunk_content=long)
    for on_conflict in ("skip", "replace", "fail"):
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [named], "on_conflict": on_conflict}
        problem(tenant.data("POST", "/chunk/{org}", json=body), 403, "quota_exceeded")
    (stored,) = tenant.get(kb, 1, projection=("chunk_content", "name", "meta_data"))
    assert stored == {"chunk_id": 1, "chunk_content": "content 1", "name": "", "meta_data": {}}
    assert ok(tenant.data("GET", "/exec_context/{org}/ctx")) == PUBLIC
    exactly = {"chunk_id": 1, "chunk_content": "content 1" + "x" * room}
    ok(tenant.data("PATCH", "/chunk/{org}", json={"kb_id": kb, "context_id": "ctx", "chunk_patches": [exactly]}))
    tenant.check()
    problem(tenant.insertion(kb, 1), 403, "quota_exceeded")


def test_contexts_are_saved_up_to_the_quota(tenant: Tenant) -> None:
    tenant.quotas(contexts=2)
    for context_id in ("a", "b", "a"):
        tenant.save_context(context_id)
    third = {"context_id": "c", "data": PUBLIC}
    assert "2 contexts" in problem(tenant.data("POST", "/exec_context/{org}", json=third), 403, "quota_exceeded")
    ok(tenant.data("DELETE", "/exec_context/{org}/a"))
    tenant.save_context("c")
    assert tenant.check()["contexts"] == 2


def test_of_insertions_at_the_same_time_as_many_are_stored_as_fit(tenant: Tenant) -> None:
    tenant.save_context()
    kbs = [tenant.new_kb() for _ in range(2)]
    tenant.quotas(chunks=50)

    def insert(i: int) -> int:
        client = Http(tenant.credentials)
        body = {"kb_id": kbs[i % 2], "context_id": "ctx", "chunks": [chunk()] * 7}
        status = client.data("POST", "/chunk/{org}", json=body).status_code
        client.close()
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(insert, range(16)))
    assert sorted(statuses) == [200] * 7 + [403] * 9
    assert tenant.check()["chunks"] == 49


def test_an_insertion_that_was_answered_is_answered_again_at_the_quota(tenant: Tenant) -> None:
    tenant.save_context()
    kb = tenant.new_kb()
    tenant.quotas(chunks=1)
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
    first, again = (tenant.data("POST", "/chunk/{org}", json=body, headers={"idempotency-key": "k"}) for _ in range(2))
    assert ok(first) == ok(again) == {"chunk_ids": [1]}


def test_requests_count_by_minute_and_day(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 20_000 * 86_400.0

    def at(seconds: float) -> None:
        monkeypatch.setattr(usage, "now_s", lambda: day + seconds)

    def ask() -> httpx2.Response:
        return tenant.data("GET", "/exec_context/{org}")

    at(0)
    tenant.quotas(requestsPerMinute=3, requestsPerDay=5)
    for _ in range(3):
        ok(ask())
    said = problem(ask(), 403, "quota_exceeded")
    assert said.startswith("the organisation has used its 3 requests of this minute, ")
    assert (tenant.usage["requestsThisMinute"], tenant.usage["requestsToday"]) == (3, 3)
    # The operator and admin keys go on, and so does everybody else.
    ok(tenant.control("GET", "/kbs"))
    other = Tenant(tenant.service)
    ok(other.data("GET", "/exec_context/{org}"))
    other.close()
    at(61)
    assert (tenant.usage["requestsThisMinute"], tenant.usage["requestsToday"]) == (0, 3)
    for _ in range(2):
        ok(ask())
    assert "5 requests of this day" in problem(ask(), 403, "quota_exceeded")
    at(86_400 - 1)
    problem(ask(), 403, "quota_exceeded")
    at(86_400)
    ok(ask())
    at(-7200)  # a clock that is set back does not hold what was counted by the later one against anybody
    ok(ask())
    tenant.quotas(requestsPerMinute=None, requestsPerDay=None)
    for _ in range(9):
        ok(ask())


def test_requests_at_the_same_time_do_not_exceed_their_quota(tenant: Tenant) -> None:
    tenant.quotas(requestsPerDay=20)

    def ask(_: int) -> int:
        client = Http(tenant.credentials)
        status = client.data("GET", "/exec_context/{org}").status_code
        client.close()
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(ask, range(32)))
    assert sorted(statuses) == [200] * 20 + [403] * 12
    assert tenant.usage["requestsToday"] == 20


def test_usage_and_quotas_outlive_a_restart(tmp_path: Path) -> None:
    with running_service(tmp_path / "data") as service:
        tenant = Tenant(service)
        tenant.save_context()
        kb = tenant.new_kb()
        tenant.quotas(chunks=3, requestsPerDay=4)
        ok(tenant.insertion(kb, 3))
        before = tenant.usage
        tenant.close()
    with running_service(tmp_path / "data") as service:
        tenant.credentials.api_url = service.url
        again = Http(tenant.credentials)
        path = f"/api/v1/operator/organisations/{tenant.org}"
        found = ok(again.client.get(path, headers=service.operator_headers))
        assert found["usage"]["requestsToday"] == before["requestsToday"] == 2
        assert {name: found["usage"][name] for name in ("chunks", "bytes", "contexts")} == {
            name: before[name] for name in ("chunks", "bytes", "contexts")
        }
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}
        assert "chunks" in problem(again.data("POST", "/chunk/{org}", json=body), 403, "quota_exceeded")
        ok(again.data("GET", "/exec_context/{org}"))
        assert "of this day" in problem(again.data("GET", "/exec_context/{org}"), 403, "quota_exceeded")
        again.close()


class Counting(httpx2.AsyncHTTPTransport):
    """The network; `sent` counts the requests that write."""

    sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent += request.method != "GET"
        return await super().handle_async_request(request)


async def test_the_client_raises_it_by_its_name_and_does_not_try_again(tenant: Tenant) -> None:
    tenant.save_context()
    kb, credentials, network = tenant.new_kb(), tenant.credentials, Counting()
    tenant.quotas(chunks=0)
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, api_url=credentials.api_url, transport=network
    ) as xtrace:
        with pytest.raises(QuotaExceeded, match="may store 0 chunks and has 0; this would add 1") as refused:
            await xtrace.insert_chunks(kb, [{"chunk_content": "x"}], "ctx", index=[[toy_key().encrypt(1)]])
    assert isinstance(refused.value, PermissionDenied)
    assert network.sent == 1


def test_an_organisation_sees_what_its_operator_sees_of_it(tenant: Tenant) -> None:
    tenant.save_context()
    tenant.insert(tenant.new_kb(), [chunk()] * 3)
    tenant.quotas(chunks=10, requestsPerDay=100)
    seen = ok(tenant._operator("GET"))
    assert ok(tenant.control("GET", "/organisation")) == seen
    assert (seen["usage"]["chunks"], seen["quotas"]["chunks"]) == (3, 10)
