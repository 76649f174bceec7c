"""What happens while a page is open, in a real Chromium: sessions that end, keys that are revoked, a second click."""

from pathlib import Path

import pytest

from support.browser import NEEDS_CHROMIUM, Chromium
from support.dashboard import set_times
from support.service import Http, LiveService, ok, running_service

pytestmark = NEEDS_CHROMIUM
DATABASES = ("sqlite",)


def test_a_double_click_creates_one_key_and_shows_its_secret(
    chromium: Chromium, live_service: LiveService, http: Http
) -> None:
    with chromium.window(live_service.url) as window:
        page = window.sign_in(http.credentials)
        window.open("/keys")
        page.get_by_label("Name", exact=True).fill("once")
        page.get_by_role("button", name="Create API key").dblclick()
        page.get_by_role("dialog").wait_for()
        assert len(page.locator("#secret").inner_text()) == 46
    assert [one["name"] for one in ok(http.control("GET", "/keys"))].count("once") == 1


@pytest.mark.full
def test_a_session_that_expires_loses_one_form_and_comes_back_to_its_page(
    chromium: Chromium, live_service: LiveService, http: Http
) -> None:
    with chromium.window(live_service.url) as window:
        page = window.sign_in(http.credentials)
        window.open("/knowledge-bases")
        set_times(live_service, http.org, used_at=3600)
        page.get_by_label("Name", exact=True).fill("too late")
        page.get_by_role("button", name="Create knowledge base").click()
        page.get_by_role("heading", name="Your session ended").wait_for()
        assert page.get_by_text("Your last change was not saved.").is_visible()
        window.check_accessible()
        page.get_by_label("Organisation ID").fill(http.org)
        page.get_by_label("Admin key").fill(http.credentials.admin_key)
        page.get_by_role("button", name="Sign in and continue").click()
        page.get_by_role("heading", name="Knowledge bases").wait_for()
        assert page.get_by_text("too late").count() == 0
        window.forget("401")


@pytest.mark.full
def test_a_key_that_is_revoked_meanwhile_is_said_to_be_gone(
    chromium: Chromium, live_service: LiveService, http: Http
) -> None:
    http.new_kb()
    (key,) = ok(http.control("GET", "/keys"))
    with chromium.window(live_service.url) as window:
        page = window.sign_in(http.credentials)
        window.open(f"/keys/{key['hash']}")
        other = window.watch(window.context.new_page())
        other.goto(f"{live_service.url}/keys/{key['hash']}")
        other.get_by_label("to confirm").fill(key["name"])
        other.get_by_role("button", name="Revoke API key").click()
        other.get_by_text("API key revoked.").wait_for()
        page.get_by_label("kb: read", exact=True).check()
        page.get_by_role("button", name="Save grants").click()
        page.get_by_role("heading", name="Key not found").wait_for()
        window.check_accessible()
        window.forget("404")


@pytest.mark.full
def test_figures_that_no_longer_refresh_are_said_to_be_old(
    chromium: Chromium, tmp_path: Path, unused_tcp_port: int
) -> None:
    with chromium.window(f"http://127.0.0.1:{unused_tcp_port}") as window:
        page = window.page
        page.clock.install()
        with running_service(tmp_path / "data", port=unused_tcp_port) as service:
            window.sign_in(service.first_credentials)
        page.clock.run_for(15_000)
        page.get_by_text("These figures are not up to date.").wait_for()
        window.check_accessible()
        assert {one.partition(":")[0] for one in window.complaints} == {"error"}, window.complaints
        window.complaints.clear()
        with running_service(tmp_path / "data", port=unused_tcp_port):
            page.clock.run_for(15_000)
            page.get_by_text("These figures are not up to date.").wait_for(state="hidden")
