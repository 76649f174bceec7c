"""The dashboard in a real Chromium: flows, accessibility, and a console that stays empty."""

import pytest

from support.browser import NEEDS_CHROMIUM, Chromium
from support.service import LiveService
from xtrace_server.credentials import Credentials

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
