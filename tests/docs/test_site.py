"""The documentation as a site: it builds without warnings, and every link and everything that it loads is in it."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urldefrag

import pytest
from tools.docs_site import http_reference, repository_pages

import xtrace_sdk
from docs.examples import ROOT
from support.browser import NEEDS_CHROMIUM, running_chromium

_ABROAD = re.compile(r"(?:https?:)?//")


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and "href" in given and given.get("rel") != "canonical":
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    command: list[str | Path] = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """Every page of the site but the one for unknown addresses, whose links begin at the root."""
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


@pytest.mark.timeout(1200)
def test_every_link_leads_to_a_file_and_an_anchor_that_there_are(pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for link in [*page.links, *page.loaded]:
            if _ABROAD.match(link) or link.startswith("data:"):
                continue
            target, anchor = urldefrag(unquote(link))
            file = (path.parent / target).resolve() if target else path
            known = pages[file].anchors if file in pages else set()
            if not file.is_file() or (anchor and file in pages and anchor not in known):
                lost.append(f"{path.name}: {link}")
    assert lost == []


def test_nothing_is_loaded_from_elsewhere_and_search_works_from_a_disk(pages: dict[Path, Page], site: Path) -> None:
    assert [url for page in pages.values() for url in page.loaded if _ABROAD.match(url)] == []
    # A browser does not fetch JSON beside a page that it opened from a disk; it does run a script.
    assert (site / "search" / "search_index.js").is_file()


def test_the_references_describe_every_public_name_and_every_call(pages: dict[Path, Page], site: Path) -> None:
    documented = pages[site / "reference" / "sdk.html"].anchors
    names = [name for name in xtrace_sdk.__all__ if not name.startswith("_")]
    assert [name for name in names if not any(one.endswith(f".{name}") for one in documented)] == []
    calls = re.findall(r"^### `([A-Z]+ /\S*)`$", http_reference.page(), re.MULTILINE)
    written = (site / "reference" / "http.html").read_text("utf-8")
    assert len(calls) > 50
    assert [call for call in calls if call not in written] == []


def test_links_out_of_docs_become_links_to_pages_of_the_site() -> None:
    text = "[a](docs/keys.md#rotation) [b](examples/README.md) [c](https://example.org/docs/x.md) [d](#here)"
    assert repository_pages.with_links(text, "README.md") == (
        "[a](keys.md#rotation) [b](examples/index.md) [c](https://example.org/docs/x.md) [d](#here)"
    )
    recipe = repository_pages.with_links("[e](../../examples/fastapi_service/) [f](../keys.md)", "docs/recipes/x.md")
    assert recipe == "[e](../examples/fastapi_service.md) [f](../keys.md)"


@pytest.mark.full
@pytest.mark.long
@NEEDS_CHROMIUM
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("scheme", "coloured"), [("light", 0), ("dark", 2)])
def test_pages_opened_from_a_disk_are_accessible(
    pages: dict[Path, Page], site: Path, scheme: Literal["light", "dark"], coloured: int
) -> None:
    """The contrasts of every fourth page from `coloured` on: the colours are the theme's, which all pages share."""
    chosen = sorted(pages)[coloured::4]
    with running_chromium() as chromium, chromium.window(site.as_uri(), color_scheme=scheme) as window:
        for path in chosen if scheme == "dark" else sorted(pages):
            window.open(f"/{path.relative_to(site).as_posix()}")
            window.check_accessible(colours=path in chosen)
