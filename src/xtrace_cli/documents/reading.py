"""Text to load: a folder's files, or the reference that comes with Python, split into chunks."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.sections import Source, UnusableFile
from xtrace_cli.documents.walking import DEFAULT_MAX_BYTES, LINK_OUTSIDE, TOO_LARGE, Found, Walk, read_file
from xtrace_sdk.errors import InaccessibleFile, InvalidDocument

SUFFIXES = (".md", ".txt")
CHUNK_CHARACTERS = (400, 900)
"""The splitter fills a chunk up to somewhere between the two, at the best boundary it finds."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text and where it is from."""

    source: str
    text: str


def python_reference() -> list[Document]:
    """The language reference's topics as every CPython carries them for `help()`, the most specific first."""
    from pydoc_data.topics import topics

    documents = [Document(f"Python reference: {name}", text) for name, text in topics.items()]
    return sorted(documents, key=lambda document: (len(document.text), document.source))


class FolderDocuments:
    """The `.txt` and `.md` files of a folder and the folders in it, by path; hidden and empty ones are passed over.

    Each is read when its turn comes, at every iteration anew. Files that cannot be read, are larger than 32 MiB or are
    not text are passed over; links are not followed.
    """

    def __init__(self, folder: Path, on_note: Callable[[str], object]) -> None:
        """`on_note` is told once of each file that is passed over, or whose encoding had to be guessed.

        Raises `InaccessibleFile` if it is not a folder, `InvalidDocument` if it contains nothing to load.
        """
        self.passed_over: set[Path] = set()
        """Files with something in them that could not be loaded."""
        self._noted: set[Path] = set()
        self._on_note = on_note
        if not folder.is_dir():
            raise InaccessibleFile(f"{folder} is not a folder: name a folder with .txt or .md files")
        self._folder = folder
        if next(iter(self), None) is None:
            raise InvalidDocument(
                f"{folder} contains nothing to load: expected .txt or .md files in it that are not empty"
            )

    def __iter__(self) -> Iterator[Document]:
        found = Found()
        Walk(DEFAULT_MAX_BYTES).run(self._folder, found)
        for path, reason in found.passed_over.items():
            if path.suffix.lower() in SUFFIXES and reason in (TOO_LARGE, LINK_OUTSIDE):
                self._pass_over(path, f"it is {reason.replace('--max-size', f'{DEFAULT_MAX_BYTES >> 20} MiB')}")
        for file in found.files:
            if file.path.suffix.lower() in SUFFIXES:
                document = Document(shown_path(file.path.relative_to(self._folder)), self._read(file.path))
                if document.text.strip():
                    yield document

    def _read(self, path: Path) -> str:
        """The text of a file, empty for one that is passed over."""
        try:
            source = Source(read_file(path, DEFAULT_MAX_BYTES)[0], path.name)
            text = text_of(source)
        except OSError as error:
            return self._pass_over(path, f"it cannot be read: {error.strerror}")
        except (UnusableFile, ValueError) as error:
            return self._pass_over(path, str(error))
        for note in source.notes:
            self._note(path, f"{shown_path(path)} {note.partition(';')[0]}")
        return text

    def _pass_over(self, path: Path, reason: str) -> str:
        self.passed_over.add(path)
        self._note(path, f"{shown_path(path)} was passed over: {reason}")
        return ""

    def _note(self, path: Path, text: str) -> None:
        if path not in self._noted:
            self._noted.add(path)
            self._on_note(text)


def shown_path(path: Path) -> str:
    """The path as text; bytes of a name that are not valid UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def chunks_of(documents: Iterable[Document]) -> Iterator[dict[str, Any]]:
    """The documents as chunks for a `DataLoader`; a passage that several documents share is taken once.

    The source is the first line of each chunk's text, where only the client can read it and where it helps the
    embedding; nothing is put into the metadata, which the service could read.
    """
    seen = set()
    for document in documents:
        for passage in _passages(document):
            digest = hashlib.sha256(passage.encode()).digest()
            if digest not in seen:
                seen.add(digest)
                yield {"chunk_content": f"{document.source}\n\n{passage}"}


def source_and_passage(content: str) -> tuple[str, str]:
    """The two parts of a chunk that `chunks_of` made."""
    source, _, passage = content.partition("\n\n")
    return source, passage


def _passages(document: Document) -> list[str]:
    splitter = MarkdownSplitter if document.source.lower().endswith(".md") else TextSplitter
    return splitter(CHUNK_CHARACTERS).chunks(document.text)
