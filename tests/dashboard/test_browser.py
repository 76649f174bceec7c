"""The dashboard in a real Chromium: flows, accessibility, and a console that stays empty."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Error as PlaywrightError
from sqlalchemy import insert
from tools.dashboard_pictures import DOCS, OF_DOCS, Sample, dialogs, sample_server, take_docs

from support.browser import NEEDS_CHROMIUM, Chromium
from support.dashboard import Visitor, code_on
from support.service import Http, LiveService, ok, running_service
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.credentials import Credentials
from xtrace_server.dashboard.routes import all_routes
from xtrace_server.operations import organisations
from xtrace_server.storage.database import Database
from xtrace_server.storage.schema import knowledge_base

pytestmark = NEEDS_CHROMIUM
DATABASES = ("sqlite",)


def test_signing_in_the_overview_and_signing_out(
    chromium: Chromium, live_service: LiveService, credentials: Credentials
) -> None:
    with chromium.window(live_service.url) as window:
        window.open("/sign-in")
        window.check_accessible()
        page = window.sign_in(credentials)
        assert page.get_by_role("heading", name="Overview").is_visible()
        window.check_accessible()
        window.check_fits()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/sign-in")
        page.go_back()
        page.wait_for_url("**/sign-in*")
        assert page.get_by_text(credentials.org_id).count() == 0


@pytest.mark.full
def test_the_theme_follows_a_choice_without_a_button(
    chromium: Chromium, live_service: LiveService, credentials: Credentials
) -> None:
    with chromium.window(live_service.url) as window:
        page = window.sign_in(credentials)
        assert not page.get_by_role("button", name="Set").is_visible()
        with page.expect_navigation():
            page.get_by_label("Theme").select_option("dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 21, 23)"
        window.check_accessible()


@pytest.mark.full
def test_copying_an_id(chromium: Chromium, live_service: LiveService, credentials: Credentials) -> None:
    with chromium.window(live_service.url, permissions=["clipboard-read", "clipboard-write"]) as window:
        page = window.sign_in(credentials)
        page.get_by_role("button", name="Copy organisation ID").click()
        page.get_by_text("Copied to the clipboard.").wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == credentials.org_id


def test_a_knowledge_base_from_its_creation_to_its_deletion(
    chromium: Chromium, live_service: LiveService, credentials: Credentials
) -> None:
    with chromium.window(live_service.url) as window:
        page = window.sign_in(credentials)
        page.get_by_role("link", name="Knowledge bases").click()
        page.get_by_label("Name", exact=True).fill("contracts <b>2026</b>")
        page.get_by_role("button", name="Create knowledge base").dblclick()
        page.get_by_role("heading", name="contracts <b>2026</b>").wait_for()
        window.check_accessible()
        page.get_by_role("button", name="Rename…").click()
        page.get_by_label("New name").fill("letters")
        page.get_by_role("button", name="Rename", exact=True).click()
        page.get_by_text("Knowledge base renamed.").wait_for()
        page.get_by_role("link", name="Delete…").click()
        window.check_accessible()
        page.get_by_label("to confirm").fill("letters")
        page.get_by_role("button", name="Delete knowledge base").click()
        page.get_by_text("Knowledge base deleted.").wait_for()
        page.go_back()
        page.get_by_role("heading", name="Knowledge base not found").wait_for()
        window.forget("404")


@pytest.mark.full
def test_the_operator_creates_an_organisation(chromium: Chromium, live_service: LiveService) -> None:
    key = next(iter(live_service.operator_headers.values()))
    with chromium.window(live_service.url) as window:
        window.open("/operator/sign-in")
        page = window.sign_in_operator(key)
        page.get_by_label("Name", exact=True).fill("Harbour <b>Office</b>")
        page.get_by_role("button", name="Create organisation").dblclick()
        page.get_by_text("created once").or_(page.get_by_role("dialog")).first.wait_for()
        window.open("/operator?find=Harbour")
        page.get_by_role("link", name="Harbour <b>Office</b>", exact=True).first.click()
        window.check_accessible()
        page.get_by_text("Suspend…").click()
        page.locator("#suspend-confirm").fill("Harbour <b>Office</b>")
        page.get_by_role("button", name="Suspend organisation").click()
        page.get_by_text("This organisation is suspended.").wait_for()
        window.check_accessible()


PATHS = ("/", "/knowledge-bases", "/keys", "/contexts", "/visible", "/get-started", "/audit", "/settings")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """A server with made-up data for every page."""
    with sample_server(tmp_path_factory.mktemp("sample") / "data") as made:
        yield made


def test_every_route_that_shows_a_page_is_among_the_pages(tmp_path: Path) -> None:
    """So that the walk below leaves none out."""
    nobody = Credentials("org", "", "", "")
    made = Sample(nobody, "", "kb", "key", "other", nobody, nobody, "kb", "key")
    paths = {path.partition("?")[0] for path in (made.visitor_pages() | made.pages() | made.operator_pages()).values()}
    shown = {"/overview/live", "/audit/export/{format_}", "/static/{version}/{name}"}
    for route in all_routes():
        if "GET" in (route.methods or ()) and route.path not in shown:
            assert any(route.path_regex.fullmatch(path) for path in paths), route.path


VIEWS: Final[tuple[tuple[int, Literal["light", "dark"], bool], ...]] = (
    (320, "light", True),
    (768, "dark", False),
    (1440, "dark", True),
    (2560, "light", False),
)
"""Widths with a theme each, and whether axe looks. The layout is one below 62rem and one above: axe sees each of them,
and each theme, once."""


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_every_page_is_accessible_and_fits(chromium: Chromium, sample: Sample) -> None:
    """`XTRACE_TEST_PICTURES` names a folder for pictures of all of them."""
    with chromium.window(sample.credentials.api_url) as window:

        def look(name: str) -> None:
            # The window changes under the page, which is opened once.
            for width, theme, is_checked in VIEWS:
                window.page.emulate_media(color_scheme=theme)
                window.page.set_viewport_size({"width": width, "height": 900})
                if is_checked:
                    window.check_accessible()
                window.check_fits()
                window.take_picture(f"{name}-{theme}-{width}.png")

        def look_at(pages: dict[str, str]) -> None:
            for name, path in pages.items():
                window.open(path)
                look(name)

        look_at(sample.visitor_pages())
        for credentials, pages in ((sample.empty, sample.empty_pages()), (sample.long, sample.long_pages())):
            window.sign_in(credentials)
            look_at(pages)
        window.sign_in(sample.credentials)
        look_at(sample.pages())
        window.open("/operator/sign-in")
        window.sign_in_operator(sample.operator_key)
        look_at(sample.operator_pages())
        for name, act in dialogs(sample).items():
            act(window.page)
            look(name)
        for status in ("401", "404", "422"):
            window.forget(status)


@pytest.mark.full
def test_ten_thousand_knowledge_bases_are_listed_found_and_turned(
    chromium: Chromium, live_service: LiveService, credentials: Credentials
) -> None:
    live_service.operate(lambda database: add_knowledge_bases(database, credentials.org_id, 10_000))
    with chromium.window(live_service.url) as window:
        page = window.sign_in(credentials)
        window.open("/knowledge-bases?sort=name&order=asc")
        assert page.get_by_text("1 to 25 of 10,000").is_visible()
        for _ in range(3):
            page.get_by_role("link", name="Next 25").click()
        page.get_by_text("76 to 100 of 10,000").wait_for()
        page.get_by_role("link", name="Previous 25").click()
        page.get_by_text("51 to 75 of 10,000").wait_for()
        page.get_by_label("Find by name or ID").fill("base 077")
        page.get_by_role("button", name="Find").click()
        page.get_by_text("1 to 25 of 100").wait_for()
        (deep,) = {kb_id for kb_id, name in knowledge_base_ids(live_service, credentials) if name == "base 09000"}
        for path, shown in (
            ("/knowledge-bases", "1 to 25 of 10,000"),
            ("/knowledge-bases?find=base+07", "1 to 25 of 1,000"),
            (f"/knowledge-bases?sort=name&order=asc&after={deep}~base+09000&from=9002", "9,002 to 9,026 of 10,000"),
        ):
            window.open(path)
            assert page.get_by_text(shown).is_visible(), path


async def add_knowledge_bases(database: Database, organisation_id: str, count: int) -> None:
    """Adds empty ones, faster than requests do."""
    values = {
        "organisation_id": organisation_id,
        "description": "",
        **dict.fromkeys(("number_of_vectors", "stored_bytes", "revision", "removal_revision"), 0),
        "next_chunk_id": 1,
        **dict.fromkeys(("created_at", "updated_at"), "2026-01-01T00:00:00.000000Z"),
    }
    rows = [{**values, "id": f"base{i:08}", "name": f"base {i:05}"} for i in range(count)]
    async with database.write() as connection:
        await connection.execute(insert(knowledge_base), rows)


def knowledge_base_ids(service: LiveService, credentials: Credentials) -> list[tuple[str, str]]:
    client = Http(credentials)
    found = [(one["id"], one["name"]) for one in ok(client.control("GET", "/kbs"))]
    client.close()
    return found


@pytest.mark.full
def test_the_pictures_of_the_documentation_can_be_taken(chromium: Chromium, sample: Sample, tmp_path: Path) -> None:
    taken = take_docs(chromium.browser, sample, tmp_path)
    assert [path.name for path in taken] == [f"dashboard-{name}.webp" for name in OF_DOCS]
    assert all(path.read_bytes()[8:12] == b"WEBP" for path in taken)
    kept = [DOCS / path.name for path in taken]
    assert sum(path.stat().st_size for path in kept) < 400_000
    page = (DOCS.parent / "dashboard.md").read_text()
    assert all(f"(pictures/{path.name})" in page for path in kept)


@pytest.mark.full
def test_the_python_code_that_gets_one_started_runs(
    live_service: LiveService, visitor: Visitor, credentials: Credentials, tmp_path: Path
) -> None:
    visitor.sign_in(credentials)
    secrets = {
        "XTRACE_API_KEY": credentials.api_key,
        "XTRACE_ADMIN_KEY": credentials.admin_key,
        "XTRACE_PASSPHRASE": "six words that only you know here",
    }
    (tmp_path / "example.py").write_text(code_on(visitor.get("/get-started").html, "python-collection"))
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=os.environ | secrets,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "The cat is asleep on the warm radiator.\n"), done.stderr


@pytest.mark.full
def test_every_page_works_without_script(chromium: Chromium, live_service: LiveService, http: Http) -> None:
    with chromium.window(live_service.url, java_script_enabled=False) as window:
        page = window.sign_in(http.credentials)
        for path in PATHS:
            window.open(path)
            assert page.locator("h1").is_visible()
        window.open("/keys")
        page.get_by_label("Name", exact=True).fill("without script")
        page.get_by_role("button", name="Create API key").click()
        assert len(page.locator("#secret").inner_text()) == 46
        window.open("/settings")
        page.get_by_label("Theme").select_option("dark")
        page.get_by_role("button", name="Set").click()
        assert page.locator("html").get_attribute("data-theme") == "dark"


@pytest.mark.full
def test_a_key_is_created_granted_and_revoked(chromium: Chromium, live_service: LiveService, http: Http) -> None:
    http.new_kb()
    with chromium.window(live_service.url, permissions=["clipboard-read", "clipboard-write"]) as window:
        page = window.sign_in(http.credentials)
        page.get_by_role("link", name="API keys").click()
        page.get_by_label("Name", exact=True).fill("reports")
        page.get_by_role("button", name="Create API key").click()
        page.get_by_role("dialog").wait_for()
        window.check_accessible()
        secret = page.locator("#secret").inner_text()
        page.get_by_role("dialog").get_by_role("button", name="Copy").click()
        page.get_by_text("Copied to the clipboard.").wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == secret
        page.get_by_role("link", name="I stored it").click()
        assert secret not in page.content()
        page.get_by_label("kb: read", exact=True).check()
        page.get_by_role("button", name="Save grants").click()
        page.get_by_text("Grants saved.").wait_for()
        page.go_back()
        # The answer with the secret was never stored: the browser asks whether to send the form again.
        with pytest.raises(PlaywrightError, match="ERR_CACHE_MISS"):
            page.go_back()
        page.wait_for_url("chrome-error://chromewebdata/")
        assert secret not in page.content()


@pytest.mark.full
def test_what_happens_meanwhile_is_said(chromium: Chromium, live_service: LiveService, http: Http) -> None:
    with chromium.window(live_service.url) as window:
        page = window.sign_in(http.credentials)
        window.open("/settings")
        other = window.watch(window.context.new_page())
        other.goto(live_service.url + "/settings")
        other.get_by_role("button", name="Sign out everywhere").click()
        other.wait_for_url("**/sign-in")
        page.get_by_role("button", name="Sign out", exact=True).click()
        page.get_by_role("heading", name="Sign in to XTrace").wait_for()
        live_service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, http.org))
        window.open("/sign-in")
        page.get_by_label("Organisation ID").fill(http.org)
        page.get_by_label("Admin key").fill(http.credentials.admin_key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("The organisation is suspended").wait_for()
        window.forget("401")


@pytest.mark.full
def test_a_server_that_restarts_under_the_page(chromium: Chromium, tmp_path: Path, unused_tcp_port: int) -> None:
    with running_service(tmp_path / "data", port=unused_tcp_port) as service:
        url, credentials = service.url, service.first_credentials
        window_of = chromium.window(url)
        window = window_of.__enter__()
        page = window.sign_in(credentials)
        window.open("/knowledge-bases")
    with running_service(tmp_path / "data", port=unused_tcp_port):
        page.get_by_label("Name", exact=True).fill("after the restart")
        page.get_by_role("button", name="Create knowledge base").click()
        page.get_by_role("heading", name="after the restart").wait_for()
        window_of.__exit__(None, None, None)
