"""Tables: CSV and TSV, JSON and JSON Lines."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec

from xtrace_cli.documents.decoding import text_of
from xtrace_cli.documents.sections import Section, Source, UnusableFile, row_text

_DELIMITERS = ",;\t|"
_LONGEST_FIELD = 1 << 24
_DEEPEST = 32


def read_csv(source: Source) -> Iterator[Section]:
    """Yields a section for each row: its values, named by the first row. The row after the names is row 2."""
    text = text_of(source)
    first = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=False)
    names: list[str] = []
    try:
        for number, values in enumerate(rows, start=1):
            if number == 1:
                names = values
            elif any(values):
                yield Section(row_text(names, values), row=number)
    except csv.Error as error:
        raise UnusableFile(f"its row {rows.line_num} is not valid CSV: {error}") from None
    if names and rows.line_num <= 1:
        yield Section(row_text([], names), row=1)


def read_json(source: Source) -> Iterator[Section]:
    """Yields a section for each entry of a list, else the unchanged text."""
    text = text_of(source)
    try:
        value = msgspec.json.decode(text.encode())
    except msgspec.DecodeError as error:
        raise UnusableFile(f"it is not valid JSON: {error}") from None
    except RecursionError:
        raise UnusableFile("it nests too deeply") from None
    if not isinstance(value, list):
        yield Section(text, line=1)
        return
    for number, entry in enumerate(value, start=1):
        yield Section(_entry_text(entry), row=number)


def read_jsonl(source: Source) -> Iterator[Section]:
    """Yields a section for each line that is not blank."""
    for number, line in enumerate(text_of(source).split("\n"), start=1):
        if line.strip():
            try:
                entry = msgspec.json.decode(line.encode())
            except msgspec.DecodeError as error:
                raise UnusableFile(f"its line {number} is not valid JSON: {error}") from None
            except RecursionError:
                raise UnusableFile(f"its line {number} nests too deeply") from None
            yield Section(_entry_text(entry), row=number)


def _entry_text(entry: Any) -> str:
    """Returns an entry on one line: the values of an object with their names; nested values with their paths."""
    if not isinstance(entry, dict):
        return _value_text(entry)
    flat = list(_flat(entry, "", 0))
    return row_text([name for name, _ in flat], [value for _, value in flat])


def _flat(entry: dict[str, Any], before: str, depth: int) -> Iterator[tuple[str, str]]:
    for name, value in entry.items():
        if isinstance(value, dict) and depth < _DEEPEST:
            yield from _flat(value, f"{before}{name}.", depth + 1)
        else:
            yield before + name, _value_text(value)


def _value_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return ", ".join(map(_value_text, value))
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
