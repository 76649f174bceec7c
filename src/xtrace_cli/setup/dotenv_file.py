"""Changes a `.env` atomically: everything else in it stays, including comments and order."""

import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Final, NamedTuple

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.small_files import read_small_file, utf8
from xtrace_core.files import write_file
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

_HEADING: Final = "# The settings of xtrace, as `xtrace init` wrote them.\n"
_BEFORE: Final = re.compile(r"\s*(?:export[ \t]+)?")
_COMMENT: Final = re.compile(r"[ \t]+#[^\r\n'\"]*(?=\s*\Z)")


class _Entry(NamedTuple):
    """A variable, or a comment or blank lines, which do not have a name."""

    name: str | None
    value: str | None
    text: str
    """The complete text, including the end of the line and preceding blank lines."""


def different(path: Path, values: Mapping[str, str]) -> list[str]:
    """Returns the variables whose value in the file differs. Raises `InaccessibleFile` and `InvalidArgument`."""
    found = [(one.name, one.value) for one in _entries(path) if one.name is not None]
    return [name for name, value in found if name in values and value != values[name]]


def write_settings(path: Path, values: Mapping[str, str]) -> None:
    """Sets the variables in the file, which gets mode 0600 and is created if it does not exist.

    Existing variables are changed in place, others are appended. Raises `InaccessibleFile`, `InvalidArgument` and
    `WrongUse`; the file is then unchanged.
    """
    left, text = dict(values), ""
    for entry in _entries(path):
        if entry.name is None or entry.name not in values:
            text += entry.text
        elif entry.name in left:
            text += _changed(entry, left.pop(entry.name))
    if left:
        text += "\n" if text and not text.endswith("\n") else ""
        text += "" if set(values) - set(left) else _HEADING
        text += "".join(f"{name}={_quoted(value)}\n" for name, value in left.items())
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise InaccessibleFile(f"the settings cannot be written to {path}: {error.strerror}") from None


def _changed(entry: _Entry, value: str) -> str:
    """Returns the entry with another value; keeps what precedes it, a comment after it and the end of the line."""
    if entry.value == value:
        return entry.text
    before, comment = _BEFORE.match(entry.text), _COMMENT.search(entry.text)
    end = entry.text[len(entry.text.rstrip("\r\n")) :] or "\n"
    return f"{before[0] if before else ''}{entry.name}={_quoted(value)}{comment[0] if comment else ''}{end}"


def _quoted(value: str) -> str:
    if not value.isprintable():
        raise WrongUse("a setting has a line break or another character that is not allowed in .env: set it elsewhere")
    if re.fullmatch(r"[\w./:@%+-]+", value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _entries(path: Path) -> list[_Entry]:
    if not path.exists():
        return []
    from dotenv.parser import parse_stream

    text = utf8(read_small_file(path, "settings"), path)
    entries = [_Entry(one.key, one.value, one.original.string) for one in parse_stream(StringIO(text, newline=""))]
    if "".join(entry.text for entry in entries) != text.removeprefix("\ufeff"):
        raise InvalidArgument(f"{path} cannot be changed safely: add the settings by hand")
    return entries
