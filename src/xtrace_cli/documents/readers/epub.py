"""Books in EPUB: the chapters in reading order."""

import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.readers.archives import opened, parsed_xml
from xtrace_cli.documents.readers.html import sections_of
from xtrace_cli.documents.sections import Section, Source, UnusableFile, titled

_PAGES = ("application/xhtml+xml", "text/html")


def read(source: Source) -> Iterator[Section]:
    """Yields the sections of each chapter; one without headings gets its title."""
    archive = opened(source)
    package_path = next(
        (
            one.get("full-path") or ""
            for one in parsed_xml(_entry(archive, "META-INF/container.xml")).iter("{*}rootfile")
        ),
        "",
    )
    package = parsed_xml(_entry(archive, package_path))
    title = next((one.text or "" for one in package.iter("{*}title")), "")
    folder = posixpath.dirname(package_path)
    pages = {
        one.get("id"): posixpath.normpath(posixpath.join(folder, unquote(one.get("href") or "")))
        for one in package.iter("{*}item")
        if one.get("media-type") in _PAGES
    }

    def sections() -> Iterator[Section]:
        for one in package.iter("{*}itemref"):
            if path := pages.get(one.get("idref")):
                for section in sections_of(text_of(Source(_entry(archive, path), path))):
                    place = section.place
                    yield replace(section, place=replace(place, heading=place.heading or place.title))

    return titled(title, sections())


def _entry(archive: zipfile.ZipFile, path: str) -> bytes:
    try:
        return archive.read(path)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, OSError, EOFError):
        raise UnusableFile("it is damaged: a part of the book is missing") from None
