"""Decodes text. No character is ever replaced or dropped; if the encoding had to be guessed, the user is told."""

import codecs
from typing import Final

from xtrace_cli.documents.sections import Source, UnusableFile

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, because it begins with UTF-16's mark
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKED_AT: Final = 4096


def text_of(source: Source, declared: str | None = None) -> str:
    """Decodes a file with the encoding from the user, a byte order mark or the file itself (`declared`), else UTF-8.

    If it is not valid UTF-8, it is read as Windows-1252 or Latin-1, with a note. Raises `UnusableFile`.
    """
    text = _decoded(source, declared)
    if "\0" in text:
        raise UnusableFile("it contains NUL characters, so it is not text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def known_encoding(name: str) -> str | None:
    """Returns Python's name for a text encoding; None for an unknown one."""
    try:
        codec = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    return codec.name if codec._is_text_encoding else None


def _decoded(source: Source, declared: str | None) -> str:
    data = source.data
    if source.encoding is not None:
        return _strictly(data, source.encoding, "--encoding names")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strictly(data, encoding, "its byte order mark names")
    named = None if declared is None else known_encoding(declared)
    if named not in (None, "utf-8"):
        return _strictly(data, str(named), "it names")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    return _guessed(source) if "\0" in text else text  # NUL is valid UTF-8, and UTF-16 has many


def _strictly(data: bytes, encoding: str, who: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:  # its attributes contain the content
        raise UnusableFile(f"it is not valid {encoding}, which {who}") from None


def _guessed(source: Source) -> str:
    head = source.data[:_LOOKED_AT]
    if b"\0" in head and len(source.data) % 2 == 0:
        # Text in UTF-16 without a mark: every second byte of Latin letters is NUL.
        for encoding, offset in (("utf-16-le", 1), ("utf-16-be", 0)):
            is_likely = head[offset::2].count(0) * 2 > len(head[offset::2]) and b"\0" not in head[1 - offset :: 2]
            if is_likely and _is_printable(head.decode(encoding, "ignore")):
                source.notes.append(f"has no byte order mark and was read as {encoding.upper()}")
                return _strictly(source.data, encoding, "it seems to be")
    for encoding, shown in (("cp1252", "Windows-1252"), ("latin-1", "Latin-1")):
        try:
            text = source.data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            source.notes.append(f"is not valid UTF-8 and was read as {shown}; name another encoding with --encoding")
        return text
    raise AssertionError("every byte is a character of Latin-1")


def _is_printable(text: str) -> bool:
    return all(character.isprintable() or character.isspace() for character in text)
