"""Pictures of the dashboard: `python -m tools.dashboard_pictures` replaces those of docs/dashboard.md.

`python -m tools.dashboard_pictures --all FOLDER` takes every page, light and dark, wide and narrow. It needs a Chromium
(`apt install chromium`), and starts a server with made-up data of its own.
"""

import argparse
import asyncio
import base64
import json
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx2
from playwright.sync_api import Browser, Page, sync_playwright

from xtrace_core.wire import OPERATOR_KEY_HEADER
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.credentials import (
    CREDENTIALS_FILE,
    OPERATOR_FILE,
    Credentials,
    read_credentials,
    read_operator_credentials,
)
from xtrace_server.serving import start
from xtrace_server.settings import Settings

DOCS: Final = Path(__file__).parents[1] / "docs" / "pictures"
OF_DOCS: Final = ("overview", "knowledge-base", "keys", "visible")
"""The pages that docs/dashboard.md shows."""
_DOCS_SIZE: Final = (1280, 900)
_WIDTHS: Final = (320, 768, 1440, 2560)
_FLAGS: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_MODULUS_BITS: Final = 3072
_TEXTS: Final = (380, 912, 205, 1460, 633, 77, 1204, 540)
Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Sample:
    """A server with made-up data, and what the addresses of its pages need."""

    credentials: Credentials
    operator_key: str
    kb: str
    key: str
    other: str
    """The id of an organisation that is suspended."""
    empty: Credentials
    """An organisation that has nothing yet."""
    long: Credentials
    """An organisation whose names are as long as they may be."""
    long_kb: str
    long_key: str

    def visitor_pages(self) -> dict[str, str]:
        """The pages that need no session, by name."""
        return {"sign-in": "/sign-in", "operator-sign-in": "/operator/sign-in"}

    def pages(self) -> dict[str, str]:
        """The pages of an organisation, by name."""
        kb, found = f"/knowledge-bases/{self.kb}", '{"tag1": "invoice"}'
        return {
            "overview": "/",
            "knowledge-bases": "/knowledge-bases",
            "knowledge-bases-none": "/knowledge-bases?find=nothing",
            "knowledge-base": f"{kb}?chunk=7&filter={found}",
            "knowledge-base-wrong": f"{kb}?filter=%7B%22tag9%22:1%7D&chunk=999",
            "knowledge-base-delete": f"{kb}/delete",
            "keys": "/keys",
            "key": f"/keys/{self.key}",
            "contexts": "/contexts",
            "visible": "/visible",
            "get-started": "/get-started",
            "audit": "/audit",
            "audit-none": "/audit?from=2199-01-01",
            "settings": "/settings",
            "not-found": "/no-such-page",
            "knowledge-base-gone": "/knowledge-bases/gone",
        }

    def empty_pages(self) -> dict[str, str]:
        """The pages of an organisation that has nothing, by name."""
        names = ("knowledge-bases", "keys", "contexts", "visible", "get-started", "audit", "settings")
        return {"overview-empty": "/"} | {f"{name}-empty": f"/{name}" for name in names}

    def long_pages(self) -> dict[str, str]:
        """The pages that show long names, by name."""
        kb, key = f"/knowledge-bases/{self.long_kb}", f"/keys/{self.long_key}"
        paths = {"overview": "/", "knowledge-bases": "/knowledge-bases", "knowledge-base": kb, "settings": "/settings"}
        paths |= {"knowledge-base-delete": f"{kb}/delete", "keys": "/keys", "key": key, "get-started": "/get-started"}
        return {f"{name}-long": path for name, path in paths.items()}

    def operator_pages(self) -> dict[str, str]:
        """The pages of the operator, by name."""
        return {
            "operator": "/operator",
            "operator-none": "/operator?find=nothing",
            "operator-organisation": f"/operator/organisations/{self.credentials.org_id}",
            "operator-suspended": f"/operator/organisations/{self.other}",
            "operator-gone": "/operator/organisations/gone",
        }


@contextmanager
def sample_server(folder: Path) -> Iterator[Sample]:
    """A running server over an empty folder, filled with made-up data."""
    with start(Settings(data=folder, port=0)) as _:
        credentials = read_credentials(folder / CREDENTIALS_FILE)
        operator_key = read_operator_credentials(folder / OPERATOR_FILE).operator_key
        with ThreadPoolExecutor(1) as thread:  # the caller's may have an event loop already
            kb, key = thread.submit(asyncio.run, _fill(credentials)).result()
            other, empty, long = _fill_as_operator(credentials, operator_key)
            long_kb, long_key = thread.submit(asyncio.run, _fill_with_long_names(long)).result()
        yield Sample(credentials, operator_key, kb, key, other, empty, long, long_kb, long_key)


async def _fill(credentials: Credentials) -> tuple[str, str]:
    """Stores what the pages show; returns the id of a knowledge base and the hash of a key."""
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        strong, weak = secrets.token_hex(32), secrets.token_hex(32)
        await _save_context(xtrace, strong, _MODULUS_BITS, "passphrase", ["tag5"])
        await _save_context(xtrace, weak, 1024, None, [])
        names = {
            "Contracts 2026": "Signed contracts with annexes",
            "Support letters": "",
            "Claims": "Claims of the coastal offices",
            "Meeting notes": "",
            "Research": "Papers and drafts",
        }
        kbs = [(await xtrace.create_kb(name, description)).id for name, description in names.items()]
        for kb, count in zip(kbs, (180, 64, 120, 9, 0), strict=True):
            await _store(xtrace, kb, weak if count == 9 else strong, count)
        keys = [
            await xtrace.create_api_key(name, description)
            for name, description in (
                ("Nightly import", "Loads the letters of the day"),
                ("Search page", ""),
                ("Audit tool", ""),
            )
        ]
        for key, grants in zip(keys, ({0: 3, 1: 3, 2: 3}, {0: 1, 1: 1}, {3: 1}), strict=True):
            for i, permission in grants.items():
                await xtrace.set_key_permission(key.api_key.hash, kbs[i], permission)
        query = [secrets.token_bytes(_MODULUS_BITS // 4 - 1)]
        for _ in range(12):
            await xtrace.compute_hamming_distances(query, strong, kbs[0])
            await xtrace.compute_hamming_distances(query, strong, kbs[0], meta_filter={"tag1": "invoice"})
    return kbs[0], keys[0].api_key.hash


async def _save_context(
    xtrace: XTraceIntegration, context_id: str, bits: int, provider: str | None, private: list[str]
) -> None:
    modulus = secrets.randbits(bits) | 1 << (bits - 1) | 1
    config = {"embed_len": 512, "key_len": bits, "private_metadata": private}
    data = {"type": "PaillierClient", "pk": json.dumps({"n": modulus}), "config": json.dumps(config)}
    if provider is not None:
        data |= {"sk": _random_text(96), "key_provider": provider, "wrapped_key": _random_text(48)}
    await xtrace.store_exec_context(data, context_id)


async def _store(xtrace: XTraceIntegration, kb: str, context_id: str, count: int) -> None:
    tags = ("invoice", "contract", "letter", "claim", "note")
    db = [
        {
            "chunk_content": _random_text(_TEXTS[i % len(_TEXTS)] + 32),
            "meta_data": {
                "tag1": tags[i % len(tags)],
                "tag2": f"2026-{i % 12 + 1:02}",
                "tag3": "branch office" if i % 3 else "head office",
                "facets": ["signed", "scanned"] if i % 2 else ["draft"],
            },
            "name": secrets.token_hex(16),
            "nonce": secrets.token_bytes(14),
        }
        for i in range(count)
    ]
    bits = 1024 if count == 9 else _MODULUS_BITS
    await xtrace.store_db(db, [[secrets.token_bytes(bits // 4 - 1)] for _ in db], kb, context_id)


def _random_text(count: int) -> str:
    return base64.b64encode(secrets.token_bytes(count)).decode()


async def _fill_with_long_names(credentials: Credentials) -> tuple[str, str]:
    """Stores names without a space that are as long as they may be; returns the ids of what has them."""
    name = "W" * 65_536
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb = (await xtrace.create_kb(name, name)).id
        key = (await xtrace.create_api_key(name, name)).api_key.hash
        await xtrace.set_key_permission(key, kb, 3)
        await _save_context(xtrace, secrets.token_hex(32), _MODULUS_BITS, None, [])
    return kb, key


def _fill_as_operator(credentials: Credentials, operator_key: str) -> tuple[str, Credentials, Credentials]:
    """Creates more organisations and sets a quota; returns the id of one that is suspended, and two others' keys."""
    headers = {OPERATOR_KEY_HEADER: operator_key}
    with httpx2.Client(base_url=f"{credentials.api_url}/api/v1/operator/", headers=headers) as client:
        made = [
            client.post("organisations", json={"name": name}).json()
            for name in ("Quayside Insurance", "Old Mill Archive", "Harbour Office", "W" * 256)
        ]
        ids = [one["organisation"]["id"] for one in made]
        client.patch(f"organisations/{ids[1]}/status/suspend")
        quotas = {"chunks": 400, "bytes": 2**20 * 5, "requestsPerDay": 10_000}
        client.patch(f"organisations/{credentials.org_id}/quotas", json=quotas)
    empty, long = (
        Credentials(one["organisation"]["id"], one["adminKey"], one["apiKey"], credentials.api_url) for one in made[2:]
    )
    return str(ids[1]), empty, long


def sign_in(page: Page, credentials: Credentials) -> None:
    """Signs in to an organisation."""
    url = credentials.api_url
    page.goto(f"{url}/sign-in")
    page.get_by_label("Organisation ID").fill(credentials.org_id)
    page.get_by_label("Admin key").fill(credentials.admin_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/")


def sign_in_operator(page: Page, sample: Sample) -> None:
    """Signs in as operator."""
    url = sample.credentials.api_url
    page.goto(f"{url}/operator/sign-in")
    page.get_by_label("Operator key").fill(sample.operator_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/operator")


def take_docs(browser: Browser, sample: Sample, folder: Path) -> list[Path]:
    """Writes the pictures of docs/dashboard.md into the folder, as WebP; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    width, height = _DOCS_SIZE
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="light")
    page, written = context.new_page(), []
    sign_in(page, sample.credentials)
    for name in OF_DOCS:
        page.goto(sample.credentials.api_url + sample.pages()[name])
        path = folder / f"dashboard-{name}.webp"
        path.write_bytes(_as_webp(browser, page.screenshot()))
        written.append(path)
    context.close()
    return written


def take_all(browser: Browser, sample: Sample, folder: Path) -> int:
    """Writes every page into the folder, light and dark, wide and narrow, as PNG; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    schemes: tuple[Scheme, ...] = ("light", "dark")
    for scheme in schemes:
        for width in _WIDTHS:
            context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            _take_every_page(context.new_page(), sample, folder, f"{scheme}-{width}.png")
            context.close()
    return len(list(folder.glob("*.png")))


def _take_every_page(page: Page, sample: Sample, folder: Path, end: str) -> None:
    url = sample.credentials.api_url

    def take(pages: dict[str, str]) -> None:
        for name, path in pages.items():
            page.goto(url + path)
            page.screenshot(path=folder / f"{name}-{end}", full_page=True)

    take(sample.visitor_pages())
    for credentials, pages in ((sample.empty, sample.empty_pages()), (sample.long, sample.long_pages())):
        sign_in(page, credentials)
        take(pages)
    sign_in(page, sample.credentials)
    take(sample.pages())
    sign_in_operator(page, sample)
    take(sample.operator_pages())
    for name, act in dialogs(sample).items():
        act(page)
        page.screenshot(path=folder / f"{name}-{end}")


def dialogs(sample: Sample) -> dict[str, Callable[[Page], None]]:
    """What opens each dialog and each form that is not open at once, in a window that is signed in, by name."""
    url = sample.credentials.api_url
    org = f"{url}/operator/organisations/{sample.credentials.org_id}"

    def create(page: Page, path: str, button: str) -> None:
        page.goto(url + path)
        page.get_by_label("Name", exact=True).fill("Reading room")
        page.get_by_role("button", name=button).click()
        page.get_by_role("dialog").wait_for()

    def rename(page: Page, address: str) -> None:
        page.goto(address)
        page.get_by_role("button", name="Rename…").click()

    def delete(page: Page) -> None:
        page.goto(org)
        page.get_by_text("Delete…").click()
        page.locator("#delete-confirm").fill("another name")
        page.get_by_role("button", name="Delete organisation").click()
        page.locator("#delete-error").scroll_into_view_if_needed()

    def refuse_sign_in(page: Page) -> None:
        page.goto(f"{url}/sign-in")
        page.get_by_label("Organisation ID").fill(sample.credentials.org_id)
        page.get_by_label("Admin key").fill("not a key")
        page.get_by_role("button", name="Sign in").click()
        page.locator("#key-error").wait_for()

    def refuse(page: Page, path: str, field: str, button: str) -> None:
        page.goto(url + path)
        for summary in page.locator("summary.button").all():
            summary.click()
        page.locator(f"#{field}").fill("wrong")
        page.get_by_role("button", name=button, exact=True).click()
        page.locator(f"#{field}-error").scroll_into_view_if_needed()

    def open_menu(page: Page) -> None:
        page.goto(f"{url}/keys")
        menu = page.get_by_role("button", name="Menu")
        if menu.is_visible():
            menu.click()

    def refresh(page: Page) -> None:
        page.evaluate("htmx.trigger('#live', 'every')")

    def show_ended(page: Page, then: Callable[[Page], object]) -> None:
        """A copy of the window signs out, which the window only notices when it asks for something."""
        sign_in(page, sample.credentials)
        browser = page.context.browser
        if browser is None:
            raise ValueError("the window has its own profile, so it cannot be copied")
        copied = browser.new_context(storage_state=page.context.storage_state())
        other = copied.new_page()
        other.goto(f"{url}/")
        other.locator("form[action='/sign-out']").evaluate("form => form.requestSubmit()")
        other.wait_for_url(f"{url}/sign-in**")
        copied.close()
        then(page)
        page.get_by_text("Your session ended").wait_for()

    return {
        "menu": open_menu,
        "knowledge-base-rename": lambda page: rename(page, f"{url}/knowledge-bases/{sample.kb}"),
        "key-created": lambda page: create(page, "/keys", "Create API key"),
        "operator-rename": lambda page: rename(page, org),
        "operator-created": lambda page: create(page, "/operator", "Create organisation"),
        "operator-delete-refused": delete,
        "operator-quotas-refused": lambda page: refuse(page, org.removeprefix(url), "chunks", "Save quotas"),
        "knowledge-base-delete-refused": lambda page: refuse(
            page, f"/knowledge-bases/{sample.kb}/delete", "confirm", "Delete knowledge base"
        ),
        "key-revoke-refused": lambda page: refuse(page, f"/keys/{sample.key}", "confirm", "Revoke API key"),
        "settings-rotate-refused": lambda page: refuse(page, "/settings", "key", "Rotate admin key"),
        "sign-in-refused": refuse_sign_in,
        "session-ended": lambda page: show_ended(page, lambda page: page.goto(f"{url}/settings")),
        "session-ended-live": lambda page: show_ended(page, refresh),
    }


def _as_webp(browser: Browser, png: bytes) -> bytes:
    """The picture smaller, by the browser's own encoder."""
    page = browser.new_page()
    encoded = page.evaluate(
        """async (png) => {
            const picture = await createImageBitmap(await (await fetch(png)).blob());
            const canvas = new OffscreenCanvas(picture.width, picture.height);
            canvas.getContext("2d").drawImage(picture, 0, 0);
            const blob = await canvas.convertToBlob({type: "image/webp", quality: 0.8});
            return Array.from(new Uint8Array(await blob.arrayBuffer()));
        }""",
        f"data:image/png;base64,{base64.b64encode(png).decode()}",
    )
    page.close()
    return bytes(encoded)


def main() -> None:
    """Takes the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboard_pictures", description=__doc__)
    parser.add_argument("--all", type=Path, metavar="FOLDER", help="take every page into this folder instead")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the program (default: %(default)s)")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as data,
        sample_server(Path(data) / "data") as sample,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chosen.chromium, args=list(_FLAGS))
        if chosen.all is not None:
            sys.stdout.write(f"{take_all(browser, sample, chosen.all)} pictures in {chosen.all}\n")
        else:
            for path in take_docs(browser, sample, DOCS):
                sys.stdout.write(f"{path}: {path.stat().st_size:,} bytes\n")
        browser.close()


if __name__ == "__main__":
    main()
