"""Signing in and out: who gets in, for how long, and what ends it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from support.dashboard import Visitor, set_times
from support.service import Http, LiveService, ok, running_service
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.auth.keys import new_key
from xtrace_server.credentials import Credentials
from xtrace_server.operations import admin_keys, organisations
from xtrace_server.storage import sessions
from xtrace_server.storage.database import Database
from xtrace_server.storage.schema import session

COOKIE = "xtrace-session"


def sessions_of(service: LiveService, org_id: str) -> list[Any]:
    async def read(database: Database) -> list[Any]:
        async with database.look_up() as connection:
            found = await connection.execute(select(session).where(session.c.organisation_id == org_id))
            return list(found)

    return service.operate(read)


def is_signed_in(visitor: Visitor) -> bool:
    return visitor.client.get("/", follow_redirects=False).status_code == 200


@pytest.fixture
def other(live_service: LiveService) -> Iterator[Visitor]:
    """A second browser."""
    made = Visitor(live_service.url)
    yield made
    made.close()


def test_an_admin_key_opens_the_overview(visitor: Visitor, credentials: Credentials) -> None:
    shown = visitor.sign_in(credentials)
    assert (shown.status, shown.path) == (200, "/")
    assert credentials.org_id in shown.text
    assert credentials.admin_key not in shown.html


@pytest.mark.parametrize("wrong", ["organisation", "key", "both", "empty", "api key", "another's"])
def test_nothing_else_does(visitor: Visitor, live_service: LiveService, credentials: Credentials, wrong: str) -> None:
    fields = {"organisation": credentials.org_id, "key": credentials.admin_key}
    if wrong in ("organisation", "both"):
        fields["organisation"] = "00000000-0000-0000-0000-000000000000"
    if wrong in ("key", "both"):
        fields["key"] = new_key()
    if wrong == "empty":
        fields["key"] = ""
    if wrong == "api key":
        fields["key"] = credentials.api_key
    if wrong == "another's":
        fields["key"] = live_service.new_organisation().admin_key
    shown = visitor.send("/sign-in", "/sign-in", **fields)
    assert (shown.status, shown.path) == (401, "/sign-in")
    assert "The organisation ID or the admin key is not correct." in shown.text
    assert fields["organisation"] in shown.html
    assert not fields["key"] or fields["key"] not in shown.html
    assert not is_signed_in(visitor)


def test_a_refused_sign_in_is_in_the_audit_log(visitor: Visitor, credentials: Credentials, http: Http) -> None:
    visitor.send("/sign-in", "/sign-in", organisation=credentials.org_id, key=new_key())
    visitor.sign_in(credentials)
    entries = ok(http.control("GET", "/audit"))
    denied, started = (
        [one for one in entries if one["action"] == action] for action in ("denied.unauthenticated", "session.start")
    )
    assert [(one["actor"], one["detail"]) for one in denied] == [("unknown", "POST /sign-in")]
    assert len(started) == 1


def test_cookies_are_kept_from_scripts_and_other_sites(visitor: Visitor, credentials: Credentials) -> None:
    shown = visitor.client.get("/sign-in")
    page = visitor.get("/sign-in")
    answer = visitor.client.post(
        "/sign-in",
        data={**page.form("/sign-in").fields, "organisation": credentials.org_id, "key": credentials.admin_key},
        follow_redirects=False,
    )
    for cookie in (shown.headers["set-cookie"], answer.headers["set-cookie"]):
        assert re.search(r"; HttpOnly; Path=/; SameSite=lax$", cookie), cookie
    assert answer.headers["set-cookie"].startswith(COOKIE)
    assert answer.headers["cache-control"] == "no-store"


def test_behind_https_cookies_are_for_https_alone(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", dashboard_behind_tls=True) as service:
        visitor = Visitor(service.url)
        cookie = visitor.client.get("/sign-in").headers["set-cookie"]
        visitor.close()
    assert cookie.startswith("__Host-xtrace-visitor=")
    assert "; Secure" in cookie
    assert "Domain" not in cookie


def test_the_database_has_only_a_hash_of_the_token(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    token = admin.client.cookies[COOKIE]
    assert len(token) >= 43
    rows = sessions_of(live_service, credentials.org_id)
    assert len(rows) == 1
    assert token not in repr(rows)


def test_signing_out_ends_the_session_on_the_server(admin: Visitor) -> None:
    token = admin.client.cookies[COOKIE]
    assert admin.send("/", "/sign-out").path == "/sign-in"
    assert not is_signed_in(admin)
    admin.client.cookies.set(COOKIE, token)
    assert admin.get("/").status == 401


def test_each_sign_in_has_a_token_of_its_own(admin: Visitor, credentials: Credentials) -> None:
    before = admin.client.cookies[COOKIE]
    admin.sign_in(credentials)
    assert admin.client.cookies[COOKIE] != before


@pytest.mark.parametrize(("column", "seconds"), [("used_at", 1801), ("created_at", 43_201)])
def test_a_session_ends(
    admin: Visitor, live_service: LiveService, credentials: Credentials, column: str, seconds: int
) -> None:
    set_times(live_service, credentials.org_id, **{column: seconds - 60})
    assert is_signed_in(admin)
    set_times(live_service, credentials.org_id, **{column: seconds})
    shown = admin.get("/?a=b")
    assert shown.status == 401
    assert "Your session ended" in shown.text
    assert shown.form("/sign-in").fields["next"] == "/"
    assert "was not saved" not in shown.text


def test_what_a_form_would_have_changed_is_named_when_the_session_has_ended(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    page = admin.get("/")
    set_times(live_service, credentials.org_id, used_at=1801)
    shown = admin.resend(page, "/sign-out")
    assert shown.status == 401
    assert "Your last change was not saved." in shown.text


def test_ended_sessions_leave_the_database_with_the_next_sign_in(
    admin: Visitor, other: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    set_times(live_service, credentials.org_id, used_at=1801)
    other.sign_in(credentials)
    assert len(sessions_of(live_service, credentials.org_id)) == 1


@pytest.mark.full
def test_the_number_of_sessions_is_bounded(
    admin: Visitor, live_service: LiveService, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    more = [Visitor(live_service.url) for _ in range(2)]
    for one in more:
        one.sign_in(credentials)
    assert not is_signed_in(admin)
    assert all(is_signed_in(one) for one in more)
    assert len(sessions_of(live_service, credentials.org_id)) == 2
    for one in more:
        one.close()


def test_a_page_that_asks_by_itself_does_not_keep_the_session(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    set_times(live_service, credentials.org_id, used_at=1000)
    before = sessions_of(live_service, credentials.org_id)[0].used_at
    fresh = Visitor(live_service.url)
    fresh.client.cookies.set(COOKIE, admin.client.cookies[COOKIE])
    assert fresh.get("/overview/live", headers={"hx-request": "true"}).status == 200
    assert sessions_of(live_service, credentials.org_id)[0].used_at == before
    set_times(live_service, credentials.org_id, used_at=1801)
    ended = fresh.get("/overview/live", headers={"hx-request": "true"})
    fresh.close()
    assert ended.status == 286  # so that htmx stops asking
    assert "Your session ended." in ended.text


def test_a_rotated_admin_key_ends_its_sessions_at_once(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    page = admin.get("/")
    live_service.operate(lambda database: admin_keys.rotate(database, ON_THE_HOST, credentials.org_id))
    assert sessions_of(live_service, credentials.org_id) == []
    assert admin.resend(page, "/sign-out").status == 401
    assert "Your session ended" in admin.client.get("/sign-in").text or not is_signed_in(admin)


def test_a_suspended_organisation_is_closed_at_once_and_opened_again(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    live_service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, credentials.org_id))
    shown = admin.get("/")
    assert shown.status == 403
    assert "Organisation suspended" in shown.text
    assert "suspended" in admin.sign_in(credentials).text
    live_service.operate(lambda database: organisations.resume(database, ON_THE_HOST, credentials.org_id))
    assert is_signed_in(admin)


@pytest.mark.parametrize(
    ("following", "path"),
    [
        ("/?a=b", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/%0d%0aset-cookie:x", "/"),
        ("javascript:alert(1)", "/"),
        ("/\r\nx: y", "/"),
    ],
)
def test_signing_in_leads_to_pages_of_this_server_alone(
    visitor: Visitor, credentials: Credentials, following: str, path: str
) -> None:
    fields = visitor.get("/sign-in").form("/sign-in").fields
    fields |= {"organisation": credentials.org_id, "key": credentials.admin_key, "next": following}
    answer = visitor.client.post("/sign-in", data=fields, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].partition("?")[0] == path


@pytest.mark.full
def test_failed_sign_ins_are_limited_by_address(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", dashboard_sign_ins=2, dashboard_behind_tls=True) as service:
        credentials = service.first_credentials

        def attempt(key: str, forwarded: str) -> str:
            # The cookies are for HTTPS, so they are sent by hand.
            visitor = Visitor(service.url)
            page = visitor.get("/sign-in")
            cookie = page.answer.headers["set-cookie"].partition(";")[0]
            fields = {**page.form("/sign-in").fields, "organisation": credentials.org_id, "key": key}
            headers = {"cookie": cookie, "x-forwarded-for": forwarded}
            answer = visitor.client.post("/sign-in", data=fields, headers=headers, follow_redirects=False)
            visitor.close()
            return "in" if answer.status_code == 303 else answer.text

        for _ in range(2):
            assert "is not correct" in attempt(new_key(), "198.51.100.7, 192.0.2.1")
        refused = attempt(credentials.admin_key, "198.51.100.8, 192.0.2.1")
        assert "2 sign-ins from your address failed within a minute" in refused
        assert attempt(credentials.admin_key, "198.51.100.7, 192.0.2.2") == "in"


@pytest.mark.full
def test_servers_over_one_database_share_sessions(tmp_path: Path) -> None:
    with (
        running_service(tmp_path / "data", shared=True) as one,
        running_service(tmp_path / "data", shared=True) as two,
    ):
        visitor, second = Visitor(one.url), Visitor(two.url)
        visitor.sign_in(one.first_credentials)
        second.client.cookies.set(COOKIE, visitor.client.cookies[COOKIE])
        assert is_signed_in(second)
        second.send("/", "/sign-out")
        assert not is_signed_in(visitor)
        visitor.close()
        second.close()
