"""The dashboard in a real Chromium: flows, accessibility, and a console that stays empty."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Error as PlaywrightError

from support.browser import NEEDS_CHROMIUM, Chromium
from support.service import Http, LiveService, chunk, ok, running_service
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.credentials import Credentials
from xtrace_server.operations import organisations

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


def test_copying_an_id(chromium: Chromium, live_service: LiveService, credentials: Credentials) -> None:
    with chromium.window(live_service.url, permissions=["clipboard-read", "clipboard-write"]) as window:
        page = window.sign_in(credentials)
        page.get_by_role("button", name="Copy organisation ID").click()
        page.get_by_text("Copied to the clipboard.").wait_for(state="attached")
        assert page.evaluate("navigator.clipboard.readText()") == credentials.org_id


@pytest.mark.parametrize("width", [320, 2560])
def test_pages_fit_into_windows_of_any_width(
    chromium: Chromium, live_service: LiveService, credentials: Credentials, width: int
) -> None:
    with chromium.window(live_service.url, viewport={"width": width, "height": 700}) as window:
        window.sign_in(credentials)
        window.check_fits()
        window.check_accessible()


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


PATHS = ("/", "/knowledge-bases", "/keys", "/contexts", "/visible", "/get-started", "/audit", "/settings")


@pytest.mark.full
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1280, 2560])
def test_every_page_is_accessible_and_fits(
    chromium: Chromium, live_service: LiveService, http: Http, width: int, scheme: Literal["light", "dark"]
) -> None:
    kb, _ = http.new_kb(), http.save_context()
    http.insert(kb, [chunk(i, meta_data={"tag1": "a" * 300, "facets": ["x", "y"]}) for i in range(1, 30)])
    (key,) = ok(http.control("GET", "/keys"))
    more = (f"/knowledge-bases/{kb}?chunk=1&add=1", f"/knowledge-bases/{kb}/delete", f"/keys/{key['hash']}")
    size = {"width": width, "height": 800}
    with chromium.window(live_service.url, viewport=size, color_scheme=scheme) as window:
        window.sign_in(http.credentials)
        for path in (*PATHS, *more):
            window.open(path)
            window.check_accessible()
            window.check_fits()


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
