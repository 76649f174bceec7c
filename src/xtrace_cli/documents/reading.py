"""Text to load: a folder's files, or the reference that comes with Python, split into chunks."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semantic_text_splitter import MarkdownSplitter, TextSplitter

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

    Each is read when its turn comes, at every iteration anew. Iterating raises `InaccessibleFile` for what cannot be
    read and `InvalidDocument` for a file that is not valid UTF-8.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `InaccessibleFile` if it is not a folder, `InvalidDocument` if it contains nothing to load."""
        if not folder.is_dir():
            raise InaccessibleFile(f"{folder} is not a folder: name a folder with .txt or .md files")
        self._folder = folder
        if next(iter(self), None) is None:
            raise InvalidDocument(
                f"{folder} contains nothing to load: expected .txt or .md files in it that are not empty"
            )

    def __iter__(self) -> Iterator[Document]:
        for path in _text_files(self._folder):
            document = Document(str(path.relative_to(self._folder)), _read(path))
            if document.text.strip():
                yield document


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


def _text_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InaccessibleFile(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise InvalidDocument(f"{path} is not valid UTF-8: convert it, or move it out of the folder")
    return text


def _passages(document: Document) -> list[str]:
    splitter = MarkdownSplitter if document.source.lower().endswith(".md") else TextSplitter
    return splitter(CHUNK_CHARACTERS).chunks(document.text)
