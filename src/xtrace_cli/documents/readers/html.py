"""HTML: the text that a browser shows, in sections under its headings."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Headings, Section, Source, titled

_NOT_SHOWN = frozenset(["script", "style", "template", "noscript", "svg", "math", "object", "iframe", "select"])
_BLOCKS = (
    *(
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "br",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
    ),
    *("figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
    *("summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
)
_KEPT = "\0"
"""Marks a space to keep; no text contains this character."""
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{1,40})")


def read(source: Source) -> Iterator[Section]:
    """A section for each heading, with the page's title."""
    head = source.data[:4096]
    declared = _XML_ENCODING.search(head) or _CHARSET.search(head)
    return sections_of(text_of(source, declared[1].decode() if declared else None))


def sections_of(html: str) -> Iterator[Section]:
    """The sections of a page."""
    page = _Page()
    page.feed(html)
    page.close()
    page.end_section()
    return titled(page.title, iter(page.sections))


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.sections: list[Section] = []
        self._headings = Headings()
        self._text: list[str] = []
        self._heading: list[str] | None = None
        self._hidden_in: str | None = None
        self._hidden_depth = 0
        self._is_title = False
        self._in_pre = 0
        self._begins_with = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden_in is not None:
            self._hidden_depth += tag == self._hidden_in
        elif tag in _NOT_SHOWN:
            self._hidden_in, self._hidden_depth = tag, 1
        elif tag == "title" and not self.title:
            self._is_title = True
        elif _level(tag):
            self.end_section()
            self._heading = []
        elif tag in _BLOCKS:
            self._in_pre += tag == "pre"
            self._text.append("\n\n" if tag == "p" else "\n")
        elif tag in ("td", "th"):
            self._text.append(" | ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _NOT_SHOWN and not _level(tag) and tag != "title":
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden_in is not None:
            self._hidden_depth -= tag == self._hidden_in
            if not self._hidden_depth:
                self._hidden_in = None
        elif tag == "title":
            self._is_title = False
        elif (level := _level(tag)) and self._heading is not None:
            heading = " ".join("".join(self._heading).split())
            self._heading = None
            self._headings.enter(level, heading)
            self._text = [f"{heading}\n\n"]
            self._begins_with = heading
        elif tag in _BLOCKS:
            self._in_pre -= tag == "pre" and self._in_pre > 0
            self._text.append("\n")

    def handle_data(self, data: str) -> None:
        if self._is_title:
            self.title += data
        elif self._hidden_in is None and self._heading is not None:
            self._heading.append(data)
        elif self._hidden_in is None:
            self._text.append(data.replace(" ", _KEPT) if self._in_pre else re.sub(r"\s+", " ", data))

    def end_section(self) -> None:
        """Makes a section of what was read since the last heading."""
        text = re.sub(r" *\n *", "\n", "".join(self._text)).replace(_KEPT, " ")
        self._text = []
        if self._heading is not None:  # an unclosed heading
            text += " ".join("".join(self._heading).split())
            self._heading = None
        text = re.sub(r"\n{3,}", "\n\n", text.replace("\n | ", "\n")).strip()
        if text:
            self.sections.append(
                Section(text, Place(heading=str(self._headings)), is_heading=text == self._begins_with)
            )
        self._begins_with = ""


def _level(tag: str) -> int:
    return int(tag[1]) if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else 0
