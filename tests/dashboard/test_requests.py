"""What every route of the dashboard has in common: rules, tokens, headers, and what it refuses."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from support.dashboard import HTML, Visitor
from support.service import LiveService, ok, problem, running_service
from xtrace_server.auth.guard import Plane, rule_of
from xtrace_server.dashboard import assets, tokens
from xtrace_server.dashboard.routes import all_routes
from xtrace_server.settings import Settings
from xtrace_server.storage.database import Database
from xtrace_server.storage.schema import metadata

DATABASES = ("sqlite",)
COOKIES = {
    Plane.SESSION: "xtrace-session",
    Plane.OPERATOR_SESSION: "xtrace-operator",
    Plane.VISITOR: "xtrace-session",
}
FOLDER = Path(assets.__file__).parent
HTMX = "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717"
"""SHA-256 of `dist/htmx.min.js` in the package htmx.org 2.0.11 of npm."""
ROUTES = [
    (method, route.path, rule_of(route.endpoint).plane) for route in all_routes() for method in route.methods or ()
]
FORMS = sorted((path, plane) for method, path, plane in ROUTES if method == "POST")
PAGES = sorted((path, plane) for method, path, plane in ROUTES if method == "GET" and not path.startswith("/static/"))


def filled(path: str) -> str:
    """A path with something in the place of each parameter."""
    return re.sub(r"\{\w+\}", "x" * 12, path)


@pytest.fixture(scope="module")
def everybody(live_service: LiveService) -> Iterator[Visitor]:
    """Signed in as administrator and as operator, so that only the token can be what is missing."""
    made = Visitor(live_service.url)
    made.sign_in(live_service.new_organisation())
    made.sign_in_operator(next(iter(live_service.operator_headers.values())))
    yield made
    made.close()


def stored(service: LiveService) -> dict[str, int]:
    """How many rows each table has, but for what a request writes by itself."""

    async def read(database: Database) -> dict[str, int]:
        async with database.look_up() as connection:
            return {
                name: (await connection.execute(select(func.count()).select_from(table))).scalar_one()
                for name, table in metadata.tables.items()
            }

    return service.operate(read)


def test_no_form_is_accepted_without_its_token_or_from_another_site(
    live_service: LiveService, everybody: Visitor
) -> None:
    cookies = everybody.client.cookies
    own = {plane: tokens.new_token(cookies[cookie]) for plane, cookie in COOKIES.items()}
    spliced = own[Plane.SESSION].partition(".")[0] + "." + own[Plane.OPERATOR_SESSION].partition(".")[2]
    before = stored(live_service)
    for path, plane in FORMS:
        fields: dict[str, Any] = {"theme": "dark", "confirm": "x", "name": "x"}
        for token in (None, "", f"{'A' * 22}.{'0' * 64}", tokens.new_token("another session's"), spliced):
            sent = fields if token is None else fields | {tokens.FIELD: token}
            shown = everybody.post(filled(path), sent)
            assert (shown.status, "Nothing was changed" in shown.text) == (403, True), (path, token)
        right = fields | {tokens.FIELD: own[plane]}
        for site in ("cross-site", "same-site"):
            assert everybody.post(filled(path), right, headers={"sec-fetch-site": site}).status == 403, path
    assert stored(live_service) == before


def test_a_form_that_is_refused_leads_back_to_a_page_that_exists(everybody: Visitor) -> None:
    pages = [re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)) for path, _ in PAGES]
    for path, _ in FORMS:
        (back,) = re.findall('<a href="([^"]*)">Load the form again', everybody.post(filled(path), {"name": "x"}).html)
        assert any(page.fullmatch(back) for page in pages), (path, back)
    (back,) = re.findall('<a href="([^"]*)">Load the form again', everybody.post("/keys", {"name": "x"}).html)
    assert back == "/keys"


def test_no_form_answers_to_get(everybody: Visitor) -> None:
    for path, _ in FORMS:
        if path not in dict(PAGES):
            assert everybody.get(filled(path)).status in (404, 405), path


def test_pages_are_shown_to_those_who_are_signed_in_alone(visitor: Visitor) -> None:
    for path, plane in PAGES:
        shown = visitor.get(filled(path))
        if plane is Plane.VISITOR:
            assert shown.status == 200, path
        else:
            assert shown.path == ("/operator/sign-in" if plane is Plane.OPERATOR_SESSION else "/sign-in"), path


def test_every_page_has_the_strict_policy(everybody: Visitor) -> None:
    for path, _ in PAGES:
        headers = everybody.get(filled(path)).answer.headers
        assert headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ), path
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-type"] == "text/html; charset=utf-8"


def test_no_template_has_inline_code_or_style_or_an_address_elsewhere() -> None:
    for template in (FOLDER / "templates").iterdir():
        text = template.read_text()
        assert not re.search(
            r"""\s(style|on[a-z]+)=|javascript:|<style|<script(?! src="\{\{)|\|safe|https?://""", text
        ), template.name


def test_htmx_is_the_published_one_with_its_licence() -> None:
    assert hashlib.sha256(assets.read("htmx.min.js")).hexdigest() == HTMX
    assert b'version:"2.0.11"' in assets.read("htmx.min.js")
    assert "Zero-Clause BSD" in (FOLDER / "static" / "htmx.LICENSE").read_text()


@pytest.mark.parametrize("name", assets.MEDIA_TYPES)
def test_files_are_kept_by_browsers_under_their_hash(visitor: Visitor, name: str) -> None:
    answer = visitor.client.get(assets.path(name))
    assert (answer.status_code, answer.content) == (200, assets.read(name))
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert visitor.get(f"/static/0000000000000000/{name}").status == 404


@pytest.mark.parametrize("name", ["htmx.LICENSE", "..%2frouting.py", "%2e%2e/assets.py", "x"])
def test_no_other_file_is_served(visitor: Visitor, name: str) -> None:
    assert visitor.get(f"/static/{assets.version('style.css')}/{name}").status == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"key=%ff", 400),
        (b"key=\xff", 400),
        (b"key=%00", 422),
        (b"&".join(b"a%d=1" % i for i in range(401)), 413),
        (b"key=" + b"a" * 16_384, 413),
    ],
)
def test_a_form_that_no_browser_sends_is_refused(visitor: Visitor, body: bytes, status: int) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert visitor.client.post("/sign-in", content=body, headers=headers).status_code == status


def test_a_body_that_is_not_a_form_is_refused(visitor: Visitor) -> None:
    assert visitor.client.post("/sign-in", json={}).status_code == 415


def test_an_unknown_page_says_so_to_a_reader_and_to_a_program(visitor: Visitor) -> None:
    shown = visitor.get("/no-such-page")
    assert shown.status == 404
    assert "Not found" in shown.text
    problem(visitor.client.get("/no-such-page", headers={"accept": "*/*"}), 404, "not_found")
    problem(visitor.client.get("/v1/no-such-route"), 404, "not_found")


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_programs_are_told_at_the_root_what_they_have_always_been_told(visitor: Visitor, accept: str) -> None:
    answer = visitor.client.get("/", headers={"accept": accept}, follow_redirects=False)
    assert problem(answer, 404, "not_found") == "unknown route /"


def test_no_route_of_the_dashboard_is_in_the_description_of_the_api(visitor: Visitor) -> None:
    described = ok(visitor.client.get("/openapi.json"))["paths"]
    assert not set(described) & {path for _, path, _ in ROUTES}


@pytest.mark.full
def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", dashboard=False) as service:
        visitor = Visitor(service.url)
        for path in ("/", "/sign-in", assets.path("style.css")):
            problem(visitor.client.get(path), 404, "not_found")
        visitor.close()


@pytest.mark.full
def test_it_can_have_a_port_of_its_own(tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", dashboard_port=unused_tcp_port) as service:
        first, own = Visitor(service.url), Visitor(f"http://127.0.0.1:{unused_tcp_port}")
        assert own.sign_in(service.first_credentials).path == "/"
        assert first.get("/sign-in").status == 404
        assert first.get("/livez").status == 200
        assert own.get("/livez").status == 404
        assert own.client.get("/api/v1/kbs").status_code == 404
        first.close()
        own.close()


@pytest.mark.parametrize("same", ["port", "ops_port"])
def test_its_port_is_another_one(same: str) -> None:
    with pytest.raises(ValueError, match=f"dashboard_port and {same} are both 9000"):
        Settings.model_validate({"dashboard_port": 9000, same: 9000})


@pytest.mark.full
def test_without_the_operator_api_there_is_no_page_for_the_operator(tmp_path: Path) -> None:
    with running_service(tmp_path / "data", operator_api=False) as service:
        visitor = Visitor(service.url)
        assert visitor.get("/operator/sign-in").status == 404
        assert "Sign in as operator" not in visitor.get("/sign-in").text
        visitor.close()


def test_the_theme_is_kept(visitor: Visitor) -> None:
    assert "data-theme" not in visitor.get("/sign-in").html
    shown = visitor.send("/sign-in", "/theme", theme="dark")
    assert shown.path == "/sign-in"
    assert '<html lang="en" data-theme="dark">' in shown.html
    fields = visitor.get("/sign-in").form("/theme").fields
    refused = visitor.client.post("/theme", data={**fields, "theme": "pink"}, headers=HTML)
    assert refused.status_code == 422
