"""Text with headings: Markdown and reStructuredText."""

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from markdown_it import MarkdownIt

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.records import Place
from xtrace_cli.documents.sections import Headings, Section, Source, titled


class Heading(NamedTuple):
    """A heading in a text; lines count from 0."""

    line: int
    after: int
    """The line after it."""
    level: int
    text: str


_FRONT_MATTER = re.compile(r"---\n(.*?\n)(?:---|\.\.\.)\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(['\"]?)(.+?)\1[ \t]*$", re.MULTILINE)
_RULE = re.compile(r"([!-/:-@\[-`{-~])\1{2,}[ \t]*")


def read_markdown(source: Source) -> Iterator[Section]:
    """A section for each heading."""
    text = text_of(source)
    front = _FRONT_MATTER.match(text)
    title = _FRONT_TITLE.search(front[1]) if front else None
    found = markdown_headings(text, front[0].count("\n") if front else 0)
    return _sections(text, found, title[2] if title else "", is_markdown=True)


def read_rst(source: Source) -> Iterator[Section]:
    """Yields a section for each heading. Directives are treated as text: nothing is included or executed."""
    text = text_of(source)
    return _sections(text, _rst_headings(text.split("\n")), "", is_markdown=False)


def markdown_headings(text: str, skipped: int = 0) -> list[Heading]:
    """Returns the Markdown headings after a number of lines, except those in quotes and lists."""
    # Form feeds and similar characters end a line for `splitlines`, but not in Markdown.
    after = "\n".join(text.split("\n")[skipped:])
    tokens = MarkdownIt("commonmark").disable("inline").parse(after)
    return [
        Heading(skipped + token.map[0], skipped + token.map[1], int(token.tag[1:]), _plain(following.content))
        for token, following in pairwise(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]


def _plain(markdown: str) -> str:
    """Returns a heading without link targets, code marks and emphasis."""
    without_links = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"[*`]+|(?<!\w)_+|_+(?!\w)", "", without_links)


def _rst_headings(lines: list[str]) -> list[Heading]:
    styles: list[tuple[str, bool]] = []
    found: list[Heading] = []
    for i in range(1, len(lines)):
        rule = _RULE.fullmatch(lines[i])
        text = lines[i - 1]
        if rule is None or not text.strip() or (text[0] == " " and not _is_over(lines, i)) or _RULE.fullmatch(text):
            continue
        if len(lines[i].rstrip()) < len(text.strip()) or (i > 1 and not _is_over(lines, i) and lines[i - 2].strip()):
            continue
        style = rule[1], _is_over(lines, i)
        if style not in styles:
            styles.append(style)
        found.append(Heading(i - 2 if style[1] else i - 1, i + 1, styles.index(style) + 1, text.strip()))
    return found


def _is_over(lines: list[str], rule: int) -> bool:
    """Whether the heading above this rule also has the same rule above it."""
    return rule > 1 and lines[rule - 2].rstrip() == lines[rule].rstrip()


def _sections(text: str, found: Iterable[Heading], title: str, *, is_markdown: bool) -> Iterator[Section]:
    headings, lines = list(found), text.split("\n")
    title = title or (headings[0].text if headings and headings[0].level == 1 else "")

    def sections() -> Iterator[Section]:
        above = Headings()
        if before := lines[: headings[0].line if headings else None]:
            yield Section("\n".join(before), line=1, is_markdown=is_markdown)
        ends: list[int | None] = [*(one.line for one in headings[1:]), None]
        for heading, end in zip(headings, ends, strict=False):
            above.enter(heading.level, heading.text)
            yield Section(
                "\n".join(lines[heading.line : end]),
                Place(heading=str(above)),
                heading.line + 1,
                is_markdown=is_markdown,
                is_heading=not any(map(str.strip, lines[heading.after : end])),
            )

    return titled(title, sections())
