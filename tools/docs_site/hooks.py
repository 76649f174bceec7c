"""Adds pages to the site that are not in docs/: the README as its home, the changelog, examples, and references."""

import re
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.docs_site import http_reference, python_reference, repository_pages

ROOT: Final = Path(__file__).parents[2]
_HERE: Final = Path(__file__).parent
_SHIM: Final = "assets/iframe-worker.js"
"""iframe-worker 1.0.4 from npm, unchanged (MIT)."""
_PART: Final = re.compile(r'(<nav class="md-nav" aria-label=")([^"]*")')
"""A part of a page's contents: the theme names it as its heading."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages, the style sheet, and two scripts: for tables, and for the search of a site opened from a disk."""
    for uri, text in pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the text of a page, with links out of docs/ changed to the pages that were added."""
    source = page.file.src_uri
    if page.file.generated_by:
        return markdown
    return repository_pages.with_links(markdown, f"docs/{source}")


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Returns the page with empty headers of tables as plain cells, which screen readers do not announce as headers."""
    return html.replace("<th></th>", "<td></td>")


def on_post_page(output: str, *, page: Page, config: MkDocsConfig) -> str:
    """Returns the page with a name for the dialogue of the search, which the theme leaves without one, and with names
    for the parts of its contents that no other part of the page has."""
    return _PART.sub(r"\1Contents of \2", _named_search(output))


def on_post_template(output_content: str, *, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page for unknown addresses."""
    return _named_search(output_content)


def _named_search(page: str) -> str:
    opening = 'data-md-component="search" role="dialog"'
    return page.replace(opening, f'{opening} aria-label="Search"')


def pages() -> dict[str, str]:
    """Returns the text of every page that is added, by its path in the site."""
    return {
        **repository_pages.pages(ROOT),
        "reference/http.md": http_reference.page(),
        **python_reference.pages(),
        "site.css": (_HERE / "site.css").read_text("utf-8"),
        "site.js": (_HERE / "site.js").read_text("utf-8"),
        _SHIM: (_HERE / "iframe_worker" / "shim.js").read_text("utf-8"),
    }
