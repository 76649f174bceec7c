"""API keys that expire, and organisations that are suspended: who is refused, with which code, and what stays."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx2
import pytest

from contract.test_permissions import CONTROL, DATA, call
from support.service import Http, LiveService, chunk, ok, problem
from xtrace_sdk.errors import InvalidArgument, KeyExpired, OrganisationSuspended, PermissionDenied, Unauthenticated
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.auth import guard
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.credentials import Credentials
from xtrace_server.operations import organisations

LATER = "2100-01-01T00:00:00.000000Z"


def guest(http: Http, expires_at: str = LATER) -> tuple[dict[str, Any], dict[str, str]]:
    """A key with an end, as listed, and the header that has it."""
    made = ok(http.control("POST", "/keys", json={"name": "guest", "expiresAt": expires_at}))
    return made["apiKey"], {"x-api-key": made["secretKey"]}


def suspend(service: LiveService, http: Http) -> None:
    service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, http.org))


def resume(service: LiveService, http: Http) -> None:
    service.operate(lambda database: organisations.resume(database, ON_THE_HOST, http.org))


def test_a_key_without_an_end_does_not_expire(http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    made = ok(http.control("POST", "/keys", json={"name": "n", "expiresAt": None}))
    assert [key["expiresAt"] for key in ok(http.control("GET", "/keys"))] == [None, None]
    monkeypatch.setattr(guard, "now", lambda: "9999-12-31T23:59:59.999999Z")
    ok(http.data("GET", "/exec_context/{org}", headers={"x-api-key": made["secretKey"]}))


def test_an_expired_key_is_refused_from_its_end_on_and_listed_until_it_is_revoked(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, headers = guest(http)
    assert key["expiresAt"] == LATER
    assert [one["expiresAt"] for one in ok(http.control("GET", "/keys"))] == [None, LATER]
    monkeypatch.setattr(guard, "now", lambda: "2099-12-31T23:59:59.999999Z")
    ok(http.data("GET", "/exec_context/{org}", headers=headers))
    monkeypatch.setattr(guard, "now", lambda: LATER)
    detail = problem(http.data("GET", "/exec_context/{org}", headers=headers), 401, "key_expired")
    assert detail.startswith(f"the API key expired at {LATER}: ")
    assert "xtrace keys create" in detail
    assert key["hash"] in [one["hash"] for one in ok(http.control("GET", "/keys"))]
    denied = [one for one in ok(http.control("GET", "/audit")) if one["action"] == "denied.key_expired"]
    assert {one["actor"] for one in denied} == {key["hash"]}
    ok(http.control("DELETE", f"/keys/{key['hash']}"))
    problem(http.data("GET", "/exec_context/{org}", headers=headers), 401, "unauthenticated")
    ok(http.data("GET", "/exec_context/{org}"))


@pytest.mark.parametrize("case", DATA, ids=lambda case: f"{case[0]} {case[1]}")
def test_an_expired_key_opens_no_route(http: Http, monkeypatch: pytest.MonkeyPatch, case: Any) -> None:
    _, headers = guest(http)
    monkeypatch.setattr(guard, "now", lambda: LATER)
    problem(call(http, case, "kb", headers), 401, "key_expired")


def test_only_its_own_organisation_hears_that_a_key_expired(
    http: Http, live_service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, headers = guest(http)
    other = live_service.new_organisation()
    monkeypatch.setattr(guard, "now", lambda: LATER)
    problem(http.client.get(f"/v1/exec_context/{other.org_id}", headers=headers), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2100-01-01T00:00:00Z", "2100-01-01T00:00:00.000000Z"),
        ("2100-01-01T00:00:00.5+02:00", "2099-12-31T22:00:00.500000Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000000Z"),
    ],
)
def test_the_end_of_a_key_may_be_in_any_zone(http: Http, given: str, stored: str) -> None:
    key, _ = guest(http, given)
    assert key["expiresAt"] == stored


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "tomorrow",
        "2100-01-01",
        "2100-01-01T00:00:00",
        "2001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-14:00",
        "0001-01-01T00:00:00+14:00",
        4102444800,
        True,
        ["2100-01-01T00:00:00Z"],
    ],
)
def test_an_end_that_is_no_time_in_the_future_makes_no_key(http: Http, wrong: Any) -> None:
    answer = http.control("POST", "/keys", json={"name": "n", "expiresAt": wrong})
    assert "expiresAt" in problem(answer, 422, "invalid")
    assert len(ok(http.control("GET", "/keys"))) == 1


@pytest.mark.parametrize("case", DATA, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_suspended_organisation_is_refused_every_call_of_its_api_keys(
    http: Http, live_service: LiveService, case: Any
) -> None:
    http.save_context()
    kb = http.new_kb()
    suspend(live_service, http)
    assert "suspended" in problem(call(http, case, kb, http.data_headers), 403, "suspended")
    problem(call(http, case, kb, {"x-api-key": http.credentials.api_key.swapcase()}), 401, "unauthenticated")


@pytest.mark.parametrize("case", CONTROL, ids=lambda case: f"{case[0]} {case[1]}")
def test_a_suspended_organisation_is_refused_every_call_of_its_admin_key(
    http: Http, live_service: LiveService, case: Any
) -> None:
    method, path, body = case
    suspend(live_service, http)
    path = path.replace("{kb_id}", "kb").replace("{key_hash}", "0" * 64)
    assert "suspended" in problem(http.control(method, path, json=body), 403, "suspended")
    wrong = {"x-xtrace-key": http.credentials.api_key}
    problem(http.control(method, path, json=body, headers=wrong), 401, "unauthenticated")


def test_after_a_suspension_everything_is_as_before(http: Http, live_service: LiveService) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk()])
    before = http.get(kb, 1)
    other = Http(live_service.new_organisation())
    suspend(live_service, http)
    suspend(live_service, http)
    problem(http.data("GET", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": 1}), 403, "suspended")
    problem(http.control("GET", "/kbs"), 403, "suspended")
    assert ok(other.control("GET", "/kbs")) == []
    resume(live_service, http)
    resume(live_service, http)
    assert http.get(kb, 1) == before
    entries = [entry for entry in ok(http.control("GET", "/audit")) if "organisation" in entry["action"]]
    assert [(entry["action"], entry["actor"]) for entry in entries] == [
        ("organisation.resume", "operator"),
        ("organisation.suspend", "operator"),
        ("organisation.create", "operator"),
    ]
    denied = [entry for entry in ok(http.control("GET", "/audit")) if entry["action"] == "denied.suspended"]
    assert sorted(entry["detail"] for entry in denied) == ["GET /api/v1/kbs", "GET /v1/chunk/{org}"]
    assert all(len(entry["actor"]) == 64 for entry in denied)
    other.close()


def test_an_expired_key_of_a_suspended_organisation_has_expired(
    http: Http, live_service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, headers = guest(http)
    suspend(live_service, http)
    monkeypatch.setattr(guard, "now", lambda: LATER)
    problem(http.data("GET", "/exec_context/{org}", headers=headers), 401, "key_expired")


class Counting(httpx2.AsyncHTTPTransport):
    """The network; `sent` counts the requests."""

    sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent += 1
        return await super().handle_async_request(request)


async def test_the_client_raises_each_by_its_name_and_does_not_try_again(
    credentials: Credentials, live_service: LiveService, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Counting()

    def integration(api_key: str) -> XTraceIntegration:
        return XTraceIntegration(
            credentials.org_id, api_key, credentials.admin_key, credentials.api_url, transport=network
        )

    async with integration(credentials.api_key) as xtrace:
        end = datetime(2100, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
        made = await xtrace.create_api_key("guest", expires_at=end)
        assert made.api_key.expires_at == LATER
        assert made.api_key["expiresAt"] == LATER
        listed = {key.name: key.expires_at for key in await xtrace.list_api_keys()}
        assert listed == {"default": None, "guest": LATER}
        async with integration(made.secret_key) as of_guest:
            await of_guest.list_exec_contexts()
            monkeypatch.setattr(guard, "now", lambda: LATER)
            network.sent = 0
            with pytest.raises(KeyExpired, match="the API key expired at 2100-01-01") as expired:
                await of_guest.list_exec_contexts()
        assert network.sent == 1
        assert isinstance(expired.value, Unauthenticated)
        live_service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, credentials.org_id))
        network.sent = 0
        for refused in (xtrace.list_exec_contexts, xtrace.list_kbs):
            with pytest.raises(OrganisationSuspended, match="until the server's operator resumes it") as suspended:
                await refused()
            assert isinstance(suspended.value, PermissionDenied)
        assert network.sent == 2
        with pytest.raises(InvalidArgument, match="time zone"):
            await xtrace.create_api_key("guest", expires_at=datetime.now())
        with pytest.raises(InvalidArgument, match="expires_at is a str, expected a datetime or None"):
            await xtrace.create_api_key("guest", expires_at="2100-01-01")  # type: ignore[arg-type]
        assert network.sent == 2
    assert datetime.now(UTC) < end
