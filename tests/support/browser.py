"""A real Chromium, which the machine has, and what it complains about while a test drives it.

`XTRACE_TEST_CHROMIUM` names one that is not found by itself.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from support.missing_tools import needs
from xtrace_server.credentials import Credentials

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
_WATCH_POLICY: Final = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
FOUND: Final = os.environ.get("XTRACE_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
NEEDS_CHROMIUM: Final[pytest.MarkDecorator] = needs("Chromium (apt install chromium)", FOUND)


@cache
def _axe() -> str:
    """The source of axe, which finds what is not accessible."""
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()


class Watched:
    """A browser's window, with everything that its console says."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.page = context.new_page()
        self.url = url
        self.complaints: list[str] = []
        self.watch(self.page)

    def watch(self, page: Page) -> Page:
        """Listens to a tab too."""
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self._check_request(request.url))
        return page

    def open(self, path: str) -> Page:
        """Opens a page of the server."""
        self.page.goto(self.url + path)
        return self.page

    def sign_in(self, credentials: Credentials) -> Page:
        page = self.open("/sign-in")
        page.get_by_label("Organisation ID").fill(credentials.org_id)
        page.get_by_label("Admin key").fill(credentials.admin_key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(self.url + "/")
        return page

    def sign_in_operator(self, key: str) -> Page:
        """Signs in on the operator's form, which is open."""
        self.page.get_by_label("Operator key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(self.url + "/operator")
        return self.page

    def take_picture(self, name: str) -> None:
        """Keeps a picture of the page if `XTRACE_TEST_PICTURES` names a folder."""
        if folder := os.environ.get("XTRACE_TEST_PICTURES"):
            self.page.screenshot(path=Path(folder) / name, full_page=True)

    def check_accessible(self, page: Page | None = None, *, colours: bool = True) -> None:
        """Raises `AssertionError` with what axe finds on the page: WCAG 2.2 A and AA, and best practices.

        Without `colours` it does not look at contrasts, which takes four fifths of the time.
        """
        tested = page or self.page
        if not tested.evaluate("'axe' in window"):
            # Not as a script of the page, whose policy would refuse it.
            tested.evaluate(_axe())
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found: Any = tested.evaluate(
            """([tags, colours]) => axe.run(document, {
                runOnly: {type: "tag", values: tags},
                rules: {"color-contrast": {enabled: colours}},
                resultTypes: ["violations"],
                preload: false,  // it fetches style sheets again, for none of these rules
            })""",
            [tags, colours],
        )
        violations = [
            f"{one['id']}: {node['target']} {node['failureSummary']}"
            for one in found["violations"]
            for node in one["nodes"]
        ]
        assert violations == [], f"{tested.url}: {violations}"

    def forget(self, status: str) -> None:
        """Takes back that the browser has named a page with this status, which the test has opened on purpose."""
        self.complaints = [
            one for one in self.complaints if f"the server responded with a status of {status}" not in one
        ]

    def check_fits(self) -> None:
        """Raises `AssertionError` if the page scrolls sideways."""
        width = self.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width[0] <= width[1], f"{self.page.url} is {width[0]} px wide in a window of {width[1]}"

    def _check_request(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.complaints.append(f"a request to elsewhere: {url}")


class Chromium:
    """A running Chromium."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    @contextmanager
    def window(self, url: str, **options: Any) -> Iterator[Watched]:
        """A window with cookies of its own, on the server at `url`. Raises `AssertionError` for any complaint."""
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.add_init_script(_WATCH_POLICY)
        context.set_default_timeout(20_000)
        watched = Watched(context, url)
        try:
            yield watched
        finally:
            context.close()
        assert watched.complaints == []


@contextmanager
def running_chromium() -> Iterator[Chromium]:
    """Starts Chromium, and ends it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=FOUND, args=list(_FLAGS))
        try:
            yield Chromium(browser)
        finally:
            browser.close()
