"""The operator's pages: their own sign-in, every organisation's usage, suspending and resuming."""

import pytest

from support.dashboard import Visitor
from support.service import Http, LiveService
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
    assert "This organisation is suspended." in operator.send(page, f"{page}/suspend", confirm=org).text
    assert "Organisation resumed." in operator.send(page, f"{page}/resume").text
    assert operator.get("/operator/organisations/none").status == 404


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


def test_a_replaced_operator_key_ends_its_sessions(tmp_path_factory: pytest.TempPathFactory) -> None:
    from support.service import running_service

    with running_service(tmp_path_factory.mktemp("operator") / "data") as service:
        visitor = Visitor(service.url)
        visitor.sign_in_operator(next(iter(service.operator_headers.values())))
        service.operate(lambda database: operator_key.rotate(database, ON_THE_HOST))
        assert visitor.get("/operator").status == 401
        visitor.close()
