"""Any rows come back as they were; whatever is done to an archive, it is refused or means the same."""

import io
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from xtrace_server.archive.container import ArchiveUnusable
from xtrace_server.archive.manifest import BACKUP, FORMAT, VERSION, Column, Manifest, Table
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.archive.writing import ArchiveWriter

VALUES: Final[dict[str, st.SearchStrategy[Any]]] = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "text": st.text(st.characters(exclude_categories=["Cs"])),
    "binary": st.binary(),
}
COLUMNS = st.lists(st.tuples(st.sampled_from(sorted(VALUES)), st.booleans()), min_size=1, max_size=5)
Contents = list[tuple[Table, list[tuple[Any, ...]]]]


@st.composite
def contents(draw: st.DrawFn) -> Contents:
    """Some tables with their rows."""
    made: Contents = []
    for number in range(draw(st.integers(0, 3))):
        kinds = draw(COLUMNS)
        columns = tuple(Column(f"c{i}", kind, nullable) for i, (kind, nullable) in enumerate(kinds))
        values = [VALUES[kind] | st.none() if nullable else VALUES[kind] for kind, nullable in kinds]
        next_key = draw(st.none() | st.integers(1, 2**63 - 1))
        made.append((Table(f"t{number}", columns, next_key), draw(st.lists(st.tuples(*values), max_size=5))))
    return made


def written(contents: Contents) -> bytes:
    file = io.BytesIO()
    tables = tuple(table for table, _ in contents)
    with ArchiveWriter(file, Manifest(FORMAT, VERSION, BACKUP, "", "", "0001", tables)) as writer:
        for table, rows in contents:
            for row in rows:
                writer.add(table.name, row)
    return file.getvalue()


def read(archive: bytes) -> Contents:
    reader = ArchiveReader(io.BytesIO(archive))
    rows: dict[str, list[tuple[Any, ...]]] = {table.name: [] for table in reader.manifest.tables}
    for part in reader.parts():
        rows[part.table] += part.rows
    return [(table, rows[table.name]) for table in reader.manifest.tables]


@given(contents())
def test_rows_come_back_as_they_were_and_the_same_rows_are_the_same_bytes(contents: Contents) -> None:
    archive = written(contents)
    assert read(archive) == contents
    assert written(read(archive)) == archive


@given(contents(), st.data())
def test_a_changed_archive_is_refused(contents: Contents, data: st.DataObject) -> None:
    archive = written(contents)
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(archive))] * 2)))
    put = data.draw(st.binary(max_size=20) | st.just(archive[start:end] * 2) | st.just(bytes(512)))
    changed = archive[:start] + put + archive[end:]
    try:
        found = read(changed)
    except ArchiveUnusable:
        return
    assert changed == archive
    assert found == contents
