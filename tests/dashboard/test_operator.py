"""The operator's pages: their own sign-in, every organisation's usage, suspending and resuming."""

import re

import pytest

from support.dashboard import Visitor, secret_on
from support.service import Http, LiveService, ok
from xtrace_core.wire import ADMIN_KEY_HEADER
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.auth.keys import new_key
from xtrace_server.credentials import Credentials
from xtrace_server.operations import operator_key

DATABASES = ("sqlite",)


@pytest.fixture
def operator(visitor: Visitor, live_service: LiveService) -> Visitor:
    """A browser that is signed in as operator."""
    assert visitor.sign_in_operator(next(iter(live_service.operator_headers.values()))).path == "/operator"
    return visitor


def test_only_the_operator_key_opens_them(visitor: Visitor, credentials: Credentials) -> None:
    for key in (new_key(), credentials.admin_key, credentials.api_key, ""):
        shown = visitor.sign_in_operator(key)
        assert shown.status == 401
        assert "The operator key is not correct." in shown.text
    visitor.sign_in(credentials)
    assert visitor.get("/operator").path == "/operator/sign-in"


def test_an_operator_does_not_see_an_organisations_pages(operator: Visitor) -> None:
    for path in ("/", "/knowledge-bases"):
        assert operator.get(path).path == "/sign-in"


def test_an_organisation_is_found_suspended_and_resumed(
    operator: Visitor, live_service: LiveService, http: Http
) -> None:
    org = live_service.new_organisation("Quayside <b>Insurance</b>").org_id
    listed = operator.get(f"/operator?find={org[:13]}")
    assert "Quayside <b>Insurance</b>" in listed.text
    assert "<b>Insurance" not in listed.html
    page = f"/operator/organisations/{org}"
    assert "Nothing was changed" in operator.send(page, f"{page}/suspend", confirm="Quayside").text
    name = "Quayside <b>Insurance</b>"
    assert "This organisation is suspended." in operator.send(page, f"{page}/suspend", confirm=name).text
    assert "Nothing was changed" in operator.send(page, f"{page}/resume", confirm=org).text
    assert "Organisation resumed." in operator.send(page, f"{page}/resume", confirm=name).text
    assert operator.get("/operator/organisations/none").status == 404


def test_a_new_organisations_keys_are_shown_once_and_open_it(operator: Visitor, live_service: LiveService) -> None:
    page = operator.get("/operator")
    shown = operator.resend(page, "/operator/organisations", name="Harbour <i>Office</i>")
    admin_key, api_key = re.findall(r'id="secret-(?:admin|api)"[^>]*>([0-9A-Za-z]{46})<', shown.html)
    (org,) = re.findall(r'href="/operator/organisations/([0-9a-f-]{36})">I stored them', shown.html)
    client = Http(Credentials(org, admin_key, api_key, live_service.url))
    assert ok(client.control("GET", "/kbs")) == []
    assert ok(client.data("GET", "/exec_context/{org}")) == {"contexts": []}
    client.close()
    again = operator.resend(page, "/operator/organisations", name="Harbour <i>Office</i>")
    assert "created once" in again.text
    for path in ("/operator", f"/operator/organisations/{org}"):
        html = operator.get(path).html
        assert admin_key not in html
        assert api_key not in html
        assert "<i>Office" not in html
    assert "created once" not in operator.get(f"/operator?find={org}").text
    for name in ("", "x" * 257):
        refused = operator.send("/operator", "/operator/organisations", name=name)
        assert refused.status == 422
        assert 'aria-invalid="true"' in refused.html


def test_quotas_are_set_in_numbers_and_units(operator: Visitor, live_service: LiveService, http: Http) -> None:
    page = f"/operator/organisations/{http.org}"
    saved = operator.send(page, f"{page}/quotas", chunks="1,000", bytes="1.5 gib", requests_per_day="")
    assert saved.status == 422
    saved = operator.send(page, f"{page}/quotas", chunks="1,000", bytes="10 GiB", contexts="2")
    assert "Quotas saved." in saved.text
    own = ok(http.control("GET", "/organisation"))
    assert own["quotas"] == {
        "chunks": 1000,
        "bytes": 10 * 2**30,
        "contexts": 2,
        "requestsPerMinute": None,
        "requestsPerDay": None,
    }
    assert saved.form(f"{page}/quotas").fields["bytes"] == str(10 * 2**30)
    operator.send(page, f"{page}/quotas", chunks="")
    assert ok(http.control("GET", "/organisation"))["quotas"]["chunks"] is None
    for wrong in ("-1", "many", "1.5", "9" * 19, "1,00", "5 GiB"):
        refused = operator.send(page, f"{page}/quotas", contexts=wrong, chunks="7")
        assert refused.status == 422
        assert refused.form(f"{page}/quotas").fields["contexts"] == wrong
    assert ok(http.control("GET", "/organisation"))["quotas"]["chunks"] is None


def test_an_organisation_is_renamed_and_deleted_by_its_name(
    operator: Visitor, live_service: LiveService, http: Http
) -> None:
    page = f"/operator/organisations/{http.org}"
    assert "Organisation renamed." in operator.send(page, f"{page}/rename", name="Old   Mill").text
    assert "Not renamed." in operator.send(page, f"{page}/rename", name=" ").text
    assert ok(http.control("GET", "/organisation"))["name"] == "Old   Mill"
    # Two spaces in a row look like one, so the ID is typed.
    assert "Nothing was changed" in operator.send(page, f"{page}/delete", confirm="Old   Mill").text
    gone = operator.send(page, f"{page}/delete", confirm=http.org)
    assert "Organisation deleted." in gone.text
    assert http.control("GET", "/kbs").status_code == 401
    assert operator.get(page).status == 404


def test_admin_keys_are_created_and_replaced(operator: Visitor, live_service: LiveService, http: Http) -> None:
    page = f"/operator/organisations/{http.org}"
    key = next(iter(live_service.operator_headers.values()))
    for wrong in ("", new_key(), http.credentials.admin_key):
        refused = operator.send(page, f"{page}/admin-keys", key=wrong)
        assert refused.status == 422
        assert "Nothing was changed" in refused.text
    opened = operator.get(page)
    first = secret_on(operator.resend(opened, f"{page}/admin-keys", key=key).html)
    assert "created once" in operator.resend(opened, f"{page}/admin-keys", key=key).text
    assert ok(http.control("GET", "/kbs")) == ok(http.control("GET", "/kbs", headers={ADMIN_KEY_HEADER: first})) == []
    second = secret_on(operator.send(page, f"{page}/admin-keys", key=key, replace="1").html)
    for old in (first, http.credentials.admin_key):
        assert http.control("GET", "/kbs", headers={ADMIN_KEY_HEADER: old}).status_code == 401
    assert ok(http.control("GET", "/kbs", headers={ADMIN_KEY_HEADER: second})) == []
    log = operator.get(page)
    assert "admin_key.revoke" in log.text
    assert second not in log.html


def test_sessions_are_ended_everywhere(operator: Visitor, live_service: LiveService) -> None:
    other = Visitor(live_service.url)
    other.sign_in_operator(next(iter(live_service.operator_headers.values())))
    assert operator.send("/operator", "/operator/sessions/end-all").path == "/operator/sign-in"
    assert other.get("/operator").status == 401
    other.close()


def test_what_the_server_runs_on_is_there(operator: Visitor) -> None:
    shown = operator.get("/operator").text
    for text in ("SQLite", "Database schema", "Blocks and cache", "Slow statements"):
        assert text in shown


@pytest.mark.full
def test_a_replaced_operator_key_ends_its_sessions(tmp_path_factory: pytest.TempPathFactory) -> None:
    from support.service import running_service

    with running_service(tmp_path_factory.mktemp("operator") / "data") as service:
        visitor = Visitor(service.url)
        visitor.sign_in_operator(next(iter(service.operator_headers.values())))
        service.operate(lambda database: operator_key.rotate(database, ON_THE_HOST))
        assert visitor.get("/operator").status == 401
        visitor.close()
