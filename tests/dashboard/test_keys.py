"""API keys, admin keys and the audit log on their pages."""

import csv
import io
import json
import re

import pytest
from sqlalchemy import update

from support.dashboard import Visitor, secret_on
from support.service import Http, LiveService, ok
from xtrace_core.wire import ADMIN_KEY_HEADER, API_KEY_HEADER
from xtrace_server.credentials import Credentials
from xtrace_server.storage.database import Database
from xtrace_server.storage.schema import api_key

MARKUP = "<i>=cmd</i>"
PAST = "2001-01-01T00:00:00.000000Z"


def created(admin: Visitor, name: str = "ingest", **fields: str) -> tuple[str, str]:
    """The hash and the secret of a key that a form has created."""
    shown = admin.send("/keys", "/keys", name=name, **fields)
    assert shown.status == 200, shown.text
    (key_hash,) = re.findall(r'href="/keys/([0-9a-f]{64})">I stored it', shown.html)
    return key_hash, secret_on(shown.html)


def test_a_secret_is_shown_once_and_opens_what_was_granted(admin: Visitor, http: Http) -> None:
    kb, other = http.new_kb(), http.new_kb()
    key_hash, secret = created(admin, MARKUP)
    headers = {API_KEY_HEADER: secret}
    for path in ("/keys", f"/keys/{key_hash}", "/audit", "/"):
        shown = admin.get(path)
        assert shown.status == 200
        assert secret not in shown.html
        assert MARKUP not in shown.html
    params = {"kb_id": kb, "chunk_ids": [1]}
    assert http.data("GET", "/chunk/{org}", headers=headers, params=params).status_code == 403
    page = f"/keys/{key_hash}"
    saved = admin.send(page, f"{page}/grants", **{f"grant-{kb}": "1"})
    assert "Grants saved." in saved.text
    assert ok(http.data("GET", "/chunk/{org}", headers=headers, params=params)) == []
    granted = ok(http.control("GET", f"/keys/{key_hash}/permissions"))
    assert granted == [{"knowledgeBaseId": kb, "permission": 1}]
    assert f'name="grant-{kb}" value="1" checked' in saved.html
    assert f'name="grant-{other}" value="default" checked' in saved.html
    assert "Nothing was changed." in admin.send(page, f"{page}/grants").text
    admin.send(page, f"{page}/grants", **{f"grant-{kb}": "default"})
    assert ok(http.control("GET", f"/keys/{key_hash}/permissions")) == []


def test_the_matrix_tells_explicit_from_default(admin: Visitor, http: Http) -> None:
    kb = http.new_kb()
    key_hash, _ = created(admin, default="1")
    http.new_kb()
    admin.send(f"/keys/{key_hash}", f"/keys/{key_hash}/grants", **{f"grant-{kb}": "0"})
    shown = admin.get("/keys").html
    row = shown[shown.rindex(f'<a href="/keys/{key_hash}">') :].partition("</tr>")[0]
    assert re.findall(r'class="grant ([^"]*)"', row) == [
        "grant--default",
        "grant--explicit grant--none",
        "grant--default",
    ]
    assert "1 of 2, and future ones" in admin.get("/keys").text


def test_the_grants_are_turned_by_knowledge_base(admin: Visitor, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PAGE_COLUMNS", "_PAGE_GRANTS"):
        monkeypatch.setattr(f"xtrace_server.dashboard.pages.keys.{name}", 2)
    kbs = [ok(http.control("POST", "/kbs", json={"name": f"kb {i}"}))["id"] for i in range(3)]
    key_hash, _ = created(admin)
    page = f"/keys/{key_hash}"
    second = f"?after={kbs[1]}~kb+1&from=3"
    assert f'name="grant-{kbs[0]}"' in admin.get(page).html
    assert re.findall(r'name="grant-(\w+)" value="default"', admin.get(page + second).html) == [kbs[2]]
    saved = admin.send(page + second, f"{page}/grants", **{f"grant-{kbs[2]}": "1"})
    assert f'name="grant-{kbs[2]}" value="1" checked' in saved.html
    columns = admin.get(f"/keys?column_after={kbs[1]}~kb+1&column_from=3")
    assert "Knowledge bases 3 to 3 of 3" in columns.text
    assert f'<a href="/knowledge-bases/{kbs[2]}">' in columns.html


def test_a_key_expires_on_its_day(admin: Visitor, http: Http) -> None:
    key_hash, _ = created(admin, expires="2199-01-01")
    (key,) = [one for one in ok(http.control("GET", "/keys")) if one["hash"] == key_hash]
    assert key["expiresAt"] == "2199-01-01T00:00:00.000000Z"
    for day in ("2001-01-01", "x", "2199-13-01"):
        shown = admin.send("/keys", "/keys", name="late", expires=day)
        assert shown.status == 422
        assert 'id="secret"' not in shown.html


def test_a_key_is_renamed_and_its_expiry_changed(admin: Visitor, http: Http) -> None:
    key_hash, secret = created(admin, expires="2199-01-01", default="1")
    page = f"/keys/{key_hash}"

    def stored() -> tuple[str, str, str | None]:
        (key,) = [one for one in ok(http.control("GET", "/keys")) if one["hash"] == key_hash]
        return key["name"], key["description"], key["expiresAt"]

    changed = admin.send(page, f"{page}/change", name=MARKUP, description="nightly")
    assert "API key changed." in changed.text
    assert MARKUP not in changed.html
    assert stored() == (MARKUP, "nightly", "2199-01-01T00:00:00.000000Z")
    assert "Nothing was changed." in admin.send(page, f"{page}/change").text
    admin.send(page, f"{page}/change", expires="2198-12-31")
    assert stored()[2] == "2198-12-31T00:00:00.000000Z"
    admin.send(page, f"{page}/change", expires="")
    assert stored()[2] is None
    for wrong in ({"expires": "2001-01-01"}, {"expires": "soon"}, {"name": " "}, {"name": "x" * 65_537}):
        assert admin.send(page, f"{page}/change", **wrong).status == 422
    assert stored() == (MARKUP, "nightly", None)
    said = [one["action"] for one in ok(http.control("GET", "/audit")) if one["subject"] == key_hash]
    assert said == ["api_key.expiry", "api_key.expiry", "api_key.rename", "api_key.create"]
    assert ok(http.data("GET", "/exec_context/{org}", headers={API_KEY_HEADER: secret}))


def test_an_expired_key_works_again_with_a_later_day(admin: Visitor, http: Http, live_service: LiveService) -> None:
    key_hash, secret = created(admin)

    async def expire(database: Database) -> None:
        async with database.write() as connection:
            await connection.execute(update(api_key).where(api_key.c.hash == key_hash).values(expires_at=PAST))

    live_service.operate(expire)
    headers = {API_KEY_HEADER: secret}
    assert http.data("GET", "/exec_context/{org}", headers=headers).status_code == 401
    page = f"/keys/{key_hash}"
    admin.send(page, f"{page}/change", expires="2199-01-01")
    assert http.data("GET", "/exec_context/{org}", headers=headers).status_code == 200


def test_a_long_name_is_kept_and_not_typed_to_confirm(admin: Visitor, http: Http) -> None:
    long = "é" * 65_536
    key_hash, secret = created(admin, long)
    (key,) = [one for one in ok(http.control("GET", "/keys")) if one["hash"] == key_hash]
    assert key["name"] == long
    page = f"/keys/{key_hash}"
    assert all(admin.get(path).status == 200 for path in ("/keys", page, "/keys?sort=name&order=asc"))
    assert "API key revoked." in admin.send(page, f"{page}/revoke", confirm=secret[: len(key["firstN"])]).text
    assert created(admin, "x" * 100)[0] != key_hash


def test_a_form_that_is_sent_twice_creates_one_key(admin: Visitor, http: Http) -> None:
    page = admin.get("/keys")
    first = admin.resend(page, "/keys", name="once")
    again = admin.resend(page, "/keys", name="once")
    assert 'id="secret"' in first.html
    assert 'id="secret"' not in again.html
    assert "created once" in again.text
    assert [one["name"] for one in ok(http.control("GET", "/keys"))].count("once") == 1


def test_a_key_is_revoked_by_its_name(admin: Visitor, http: Http) -> None:
    http.new_kb()
    key_hash, secret = created(admin, default="7")
    page = f"/keys/{key_hash}"
    assert "Nothing was revoked." in admin.send(page, f"{page}/revoke", confirm="x").text
    opened = admin.get(page)
    assert "API key revoked." in admin.send(page, f"{page}/revoke", confirm="ingest").text
    assert http.data("GET", "/exec_context/{org}", headers={API_KEY_HEADER: secret}).status_code == 401
    # In another tab it is still open.
    late = admin.resend(opened, f"{page}/grants")
    assert late.status == 404
    assert "does not have an API key" in late.text


def test_another_organisations_key_does_not_exist(admin: Visitor, live_service: LiveService) -> None:
    other = Http(live_service.new_organisation())
    (key,) = ok(other.control("GET", "/keys"))
    page = admin.get("/keys")
    assert admin.get(f"/keys/{key['hash']}").status == 404
    for action in ("grants", "change", "revoke"):
        fields = {**page.form("/keys").fields, "confirm": "default", "name": "x"}
        assert admin.post(f"/keys/{key['hash']}/{action}", fields).status == 404
    assert len(ok(other.control("GET", "/keys"))) == 1
    other.close()


def test_a_grant_that_does_not_exist_is_refused(admin: Visitor, http: Http) -> None:
    kb, (key_hash, _) = http.new_kb(), created(admin)
    page = f"/keys/{key_hash}"
    opened = admin.get(page)
    for level in ("2", "8", "-1", "all", ""):
        assert admin.resend(opened, f"{page}/grants", **{f"grant-{kb}": level}).status == 422, level
    assert ok(http.control("GET", f"/keys/{key_hash}/permissions")) == []


def test_the_admin_key_is_rotated_with_the_current_one(
    admin: Visitor, live_service: LiveService, credentials: Credentials, http: Http
) -> None:
    other = Visitor(live_service.url)
    other.sign_in(credentials)
    wrong = admin.send("/settings", "/settings/rotate", key=credentials.api_key)
    assert wrong.status == 422
    assert "Nothing was changed." in wrong.text
    assert ok(http.control("GET", "/kbs")) == []
    shown = admin.send("/settings", "/settings/rotate", key=credentials.admin_key)
    secret = secret_on(shown.html)
    assert http.control("GET", "/kbs").status_code == 401
    assert ok(http.control("GET", "/kbs", headers={ADMIN_KEY_HEADER: secret})) == []
    assert other.get("/").status == 401
    # This session goes on, and so do the forms of the page.
    assert admin.get("/settings").status == 200
    assert secret not in admin.get("/settings").html
    assert admin.resend(shown, "/settings/sessions/end-all").path == "/sign-in"
    other.close()


def test_an_organisation_renames_itself(admin: Visitor, http: Http) -> None:
    shown = admin.send("/settings", "/settings/rename", name=MARKUP)
    assert "Organisation renamed." in shown.text
    assert MARKUP not in shown.html
    assert ok(http.control("GET", "/organisation"))["name"] == MARKUP
    for name in ("", "x" * 257):
        refused = admin.send("/settings", "/settings/rename", name=name)
        assert refused.status == 422
        assert "Not renamed." in refused.text
    assert ok(http.control("GET", "/audit"))[0]["action"] == "organisation.rename"


def test_sessions_are_listed_and_ended(admin: Visitor, live_service: LiveService, credentials: Credentials) -> None:
    other = Visitor(live_service.url)
    other.sign_in(credentials)
    shown = admin.get("/settings")
    assert "2 sessions" in shown.text
    (action,) = {form.action for form in shown.forms if re.search(r"/sessions/[0-9a-f]{64}/end$", form.action)}
    assert "Session ended." in admin.resend(shown, action).text
    assert other.get("/").status == 401
    assert admin.get("/").status == 200
    other.close()


def test_another_organisations_session_is_not_ended(admin: Visitor, live_service: LiveService) -> None:
    other = Visitor(live_service.url)
    other.sign_in(live_service.new_organisation())
    (mine,) = re.findall(r"/settings/sessions/(end-all)", admin.get("/settings").html)
    assert mine
    stranger = Visitor(live_service.url)
    stranger.client.cookies.update(other.client.cookies)
    hashes = re.findall(r"/settings/sessions/([0-9a-f]{64})/end", stranger.get("/settings").html)
    fields = admin.get("/settings").form("/settings/sessions/end-all").fields
    for one in hashes or ["0" * 64]:
        admin.post(f"/settings/sessions/{one}/end", fields)
    assert other.get("/").status == 200
    other.close()
    stranger.close()


def test_the_audit_log_is_filtered_paged_and_exported(
    admin: Visitor, http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrace_server.operations.audit.PAGE_ENTRIES", 3)
    kbs = [http.new_kb() for _ in range(4)]
    created(admin)
    http.control("GET", "/kbs", headers={ADMIN_KEY_HEADER: "x"})

    def actions(query: str) -> list[str]:
        html = admin.get(f"/audit?{query}").html
        return re.findall(r"<td>(?:<code>|<span class=\"mark mark--bad\">)([a-z_]+\.[a-z_]+)<", html)

    assert actions("action=knowledge_base.") == ["knowledge_base.create"] * 3
    older = re.findall(r'href="/audit\?([^"]*before=[^"]*)"', admin.get("/audit?action=knowledge_base.").html)
    assert actions(older[0].replace("&amp;", "&")) == ["knowledge_base.create"]
    assert actions("action=denied.") == ["denied.unauthenticated"]
    assert actions(f"subject={kbs[2]}") == ["knowledge_base.create"]
    assert actions("from=2199-01-01") == actions("to=2001-01-01") == actions("subject=%25") == []
    assert len(actions("from=x&to=y&action=none")) == 3
    rows = list(csv.DictReader(io.StringIO(admin.get("/audit/export/csv?action=knowledge_base.").html)))
    assert [row["subject"] for row in rows] == kbs[::-1]
    lines = admin.get("/audit/export/json?action=knowledge_base.").html.splitlines()
    assert [json.loads(line)["subject"] for line in lines] == kbs[::-1]
    assert admin.get("/audit/export/xml").status == 404


def test_a_cell_does_not_become_a_formula() -> None:
    from xtrace_server.dashboard.pages.audit import _cell

    assert [_cell(value) for value in ("=1+1", "@x", "plain", 5)] == ["'=1+1", "'@x", "plain", 5]
