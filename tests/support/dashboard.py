"""The dashboard as a browser without script sees it: cookies are kept, and forms are found on their pages and sent."""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any

import httpx2
from sqlalchemy import update

from support.service import NO_AUTHORITIES, LiveService
from xtrace_server.credentials import Credentials
from xtrace_server.storage.database import Database, format_time
from xtrace_server.storage.schema import session

HTML = {"accept": "text/html"}


@dataclass
class Form:
    """A form of a page: where it goes, and what it sends if nothing is changed."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self._select = ""
        self._textarea = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", ""), given.get("method", "get").lower()))
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "textarea":
            self._textarea = given.get("name", "")
            self.forms[-1].fields[self._textarea] = ""
        elif tag == "option" and self._select and self.forms:
            value = given.get("value", "")
            if "selected" in given or self._select not in self.forms[-1].fields:
                self.forms[-1].fields[self._select] = value
        elif tag == "input" and self.forms and "name" in given:
            is_choice = given.get("type") in ("radio", "checkbox")
            if not is_choice or "checked" in given:
                self.forms[-1].fields[given["name"]] = given.get("value", "on" if is_choice else "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._textarea:
            self.forms[-1].fields[self._textarea] += data


@dataclass
class Page:
    """An answer of the dashboard."""

    answer: httpx2.Response
    forms: list[Form]
    links: list[str]
    text: str
    """What is written on it, with single spaces."""

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def html(self) -> str:
        return self.answer.text

    @property
    def path(self) -> str:
        """Where the browser is after all redirections."""
        return self.answer.url.path

    def form(self, action: str) -> Form:
        """The form that changes something there."""
        found = [one for one in self.forms if one.action == action and one.method == "post"]
        assert found, f"the page has no form for {action}, only for {[one.action for one in self.forms]}"
        return found[0]


class Visitor:
    """A browser without script. Closes with `close`."""

    def __init__(self, url: str) -> None:
        self.client = httpx2.Client(
            base_url=url, timeout=60, follow_redirects=True, headers=HTML, verify=NO_AUTHORITIES
        )

    def close(self) -> None:
        self.client.close()

    def get(self, path: str, **arguments: Any) -> Page:
        return page(self.client.get(path, **arguments))

    def post(self, path: str, fields: dict[str, Any], **arguments: Any) -> Page:
        """Sends fields as they are, without what the form on the page has."""
        return page(self.client.post(path, data=fields, **arguments))

    def send(self, on: str, action: str, **fields: Any) -> Page:
        """Opens a page, and sends its form with these fields changed."""
        return self.resend(self.get(on), action, **fields)

    def resend(self, shown: Page, action: str, **fields: Any) -> Page:
        """Sends a form of a page that was opened before."""
        return self.post(action, {**shown.form(action).fields, **fields})

    def sign_in(self, credentials: Credentials) -> Page:
        return self.send("/sign-in", "/sign-in", organisation=credentials.org_id, key=credentials.admin_key)

    def enter(self, credentials: Credentials) -> None:
        """Signs in without opening the overview, which is the most expensive page."""
        form = self.get("/sign-in").form("/sign-in")
        fields = {**form.fields, "organisation": credentials.org_id, "key": credentials.admin_key}
        assert self.client.post("/sign-in", data=fields, follow_redirects=False).status_code == 303

    def sign_in_operator(self, key: str) -> Page:
        return self.send("/operator/sign-in", "/operator/sign-in", key=key)


def secret_on(html: str) -> str:
    """The key that a page shows this once."""
    (secret,) = re.findall(r'id="secret"[^>]*>([0-9A-Za-z]{46})<', html)
    return str(secret)


def code_on(html: str, name: str) -> str:
    """The code in a block of a page, as copying it takes it."""
    (block,) = re.findall(rf'<pre id="{name}"[^>]*><code>(.*?)</code></pre>', html, re.DOTALL)
    return unescape(re.sub("</?var>", "", block))


def turned_pages(visitor: Visitor, path: str, row: re.Pattern[str]) -> list[list[str]]:
    """What is on each page of a list, which is turned to its end, and back: both ways show the same."""
    found, html_of, path_of = [], "", path
    while path_of:
        html_of = visitor.get(path_of).html
        found.append(row.findall(html_of))
        path_of = linked(html_of, "next")
    back = [found[-1]]
    while path_of := linked(html_of, "prev"):
        html_of = visitor.get(path_of).html
        back.append(row.findall(html_of))
    assert back[::-1] == found
    return found


def linked(text: str, rel: str) -> str:
    """Where the link of the pager leads; empty without one."""
    found = re.findall(rf'<a class="button button--s" href="([^"]*)" rel="{rel}">', text)
    return unescape(found[0]) if found else ""


def page(answer: httpx2.Response) -> Page:
    """What an answer shows."""
    reader = _Reader()
    reader.feed(answer.text)
    return Page(answer, reader.forms, reader.links, " ".join(" ".join(reader.text).split()))


def set_times(service: LiveService, org_id: str, **ago_s: float) -> None:
    """Lets the sessions of an organisation be as old as that, by column."""
    values = {name: format_time(datetime.now(UTC) - timedelta(seconds=seconds)) for name, seconds in ago_s.items()}

    async def write(database: Database) -> None:
        async with database.write() as connection:
            await connection.execute(update(session).where(session.c.organisation_id == org_id).values(values))

    service.operate(write)
