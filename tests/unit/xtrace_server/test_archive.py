"""Archives: what is written is exactly what docs/formats.md says, and nothing else is read."""

import hashlib
import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from xtrace_server.archive.container import END, ArchiveUnusable, header_of, padding_of
from xtrace_server.archive.manifest import FORMAT, VERSION, Column, Manifest, Table
from xtrace_server.archive.reading import ArchiveReader, Part
from xtrace_server.archive.writing import PART_BYTES, ArchiveWriter

FORMATS = Path(__file__).parents[3] / "docs" / "formats.md"
ANIMALS = Table("animal", (Column("pk", "integer", False), Column("name", "text", True)), next_key=9)
EMPTY = Table("empty", (Column("flag", "boolean", False), Column("size", "real", False)))
IMAGES = Table("image", (Column("pk", "integer", False), Column("data", "binary", False)))
ROWS: list[tuple[str, tuple[Any, ...]]] = [
    ("animal", (1, "cat")),
    ("animal", (-2, None)),
    ("image", (1, b"\x00\xff")),
]


def manifest(*tables: Table, **changed: Any) -> Manifest:
    fields: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": "backup",
        "created_at": "2026-01-02T03:04:05.000006Z",
        "written_by": "xtracedb 0.1.0",
        "schema": "0001",
        "tables": tables or (ANIMALS, EMPTY, IMAGES),
    }
    return Manifest(**fields | changed)


def written(rows: Iterable[tuple[str, tuple[Any, ...]]] = ROWS, of: Manifest | None = None) -> bytes:
    file = io.BytesIO()
    with ArchiveWriter(file, of or manifest()) as writer:
        for table, row in rows:
            writer.add(table, row)
    assert writer.bytes == len(file.getvalue())
    return file.getvalue()


def composed(members: Iterable[tuple[str, bytes]], sums: bytes | None = None) -> bytes:
    """An archive with these members, with checksums that are right unless others are given."""
    members = list(members)
    if sums is None:
        sums = b"".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode() for name, data in members)
    parts = [
        header_of(name, len(data)) + data + padding_of(len(data)) for name, data in [*members, ("SHA256SUMS", sums)]
    ]
    return b"".join(parts) + END


def members_of(archive: bytes) -> list[tuple[str, bytes]]:
    """The members but the checksums, as Python's tar reads them."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        found = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]
    return found[:-1]


def read(archive: bytes) -> list[Part]:
    return list(ArchiveReader(io.BytesIO(archive)).parts())


def refused(archive: bytes, why: str = ".") -> None:
    with pytest.raises(ArchiveUnusable, match=why):
        read(archive)


def test_what_is_written_is_what_the_formats_page_says() -> None:
    """Composed here with Python's tar and MessagePack by hand."""
    members = [
        ("manifest.json", msgspec.json.format(msgspec.json.encode(manifest()), indent=2) + b"\n"),
        ("rows/000000001.animal.msgpack", b"\x92" + b"\x92\x01\xa3cat" + b"\x92\xfe\xc0"),
        ("rows/000000002.image.msgpack", b"\x91" + b"\x92\x01\xc4\x02\x00\xff"),
    ]
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members)
    expected = b""
    for name, data in [*members, ("SHA256SUMS", sums.encode())]:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        expected += info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)
    assert written() == expected + bytes(1024)
    assert hashlib.sha256(written()).hexdigest() == KNOWN_ANSWER


def test_the_example_of_the_formats_page() -> None:
    file = io.BytesIO()
    with ArchiveWriter(file, replace(manifest(), tables=())):
        pass
    assert f"    {hashlib.sha256(file.getvalue()).hexdigest()}\n" in FORMATS.read_text()
    assert f"an archive of {len(file.getvalue()):,} bytes" in FORMATS.read_text()


def test_an_archive_is_read_as_it_was_written() -> None:
    reader = ArchiveReader(io.BytesIO(written()))
    assert reader.manifest == manifest()
    assert list(reader.parts()) == [Part(1, "animal", [(1, "cat"), (-2, None)]), Part(2, "image", [(1, b"\x00\xff")])]
    assert ArchiveReader(io.BytesIO(written([]))).checked_rows() == 0


def test_every_single_flipped_byte_is_noticed() -> None:
    archive = written()
    for position in range(len(archive)):
        flipped = bytearray(archive)
        flipped[position] ^= 1 << position % 8
        refused(bytes(flipped))


def test_every_truncated_archive_and_one_with_more_behind_it_is_noticed() -> None:
    archive = written()
    for length in [*range(0, len(archive), 37), len(archive) - 1, len(archive) - 512, len(archive) - 1024]:
        refused(archive[:length])
    refused(archive + b"\0", "its end is missing|after its end")
    refused(archive + bytes(512))
    refused(archive + archive)


def test_members_that_are_exchanged_missing_or_doubled_are_noticed() -> None:
    manifest_, animals, images = members_of(written())
    right = composed([manifest_, animals, images])
    assert right == written()
    for members in (
        [manifest_, images, animals],
        [animals, manifest_, images],
        [manifest_, animals],
        [manifest_, images],
        [manifest_, animals, animals, images],
        [manifest_, manifest_, animals, images],
        [animals, images],
    ):
        sums = right[right.index(b"SHA256SUMS") + 512 : -len(END)].rstrip(b"\0")
        refused(composed(members, sums))
        if members != [manifest_, animals]:  # which alone is an archive of another database
            refused(composed(members))


@pytest.mark.parametrize(
    "name",
    [
        "rows/000000001.other.msgpack",
        "rows/000000000.animal.msgpack",
        "rows/1.animal.msgpack",
        "../../etc/passwd",
        "/etc/passwd",
        "rows/000000002.animal.msgpack",
        "manifest.json",
    ],
)
def test_a_member_of_any_other_name_is_refused(name: str) -> None:
    manifest_, animals, _ = members_of(written())
    assert read(composed([manifest_, animals]))
    refused(composed([manifest_, (name, animals[1])]), "is in the wrong place")


def test_a_link_or_a_device_is_refused() -> None:
    manifest_, animals, _ = members_of(written())
    for kind in (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.XHDTYPE):
        info = tarfile.TarInfo(animals[0])
        info.type, info.linkname, info.mode = kind, "/etc/passwd", 0o600
        head = header_of(*_sized(manifest_)) + manifest_[1] + padding_of(len(manifest_[1]))
        refused(head + info.tobuf(tarfile.USTAR_FORMAT) + END, "the header of a member is not valid")


def _sized(member: tuple[str, bytes]) -> tuple[str, int]:
    return member[0], len(member[1])


@pytest.mark.parametrize(
    "rows",
    [
        b"",
        b"\xc0",
        b"\x91\xc0",
        b"\x91\x91\x01",
        b"\x91\x93\x01\xa0\xa0",
        b"\x91\x92\xa1x\xa0",
        b"\x91\x92\x01\x01",
        b"\x91\x92\xc0\xa0",
        b"\x91\x92\x01\xa2\xff\xfe",  # not UTF-8
        b"\x91\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa0",  # beyond 2^63
        b"\x91\x92\x01" + b"\x91" * 10_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x91\xdd\xff\xff\xff\xff",
        b"\x91\x92\x01\xdb\xff\xff\xff\xff",
        b"\x91\x92\x01\xc7\xff\x05",
        b"\x91\x92\x01\xa3catX",
    ],
)
def test_rows_that_do_not_fit_the_table_are_refused_and_claim_no_memory(rows: bytes) -> None:
    archive = composed([members_of(written())[0], ("rows/000000001.animal.msgpack", rows)])
    tracemalloc.start()
    try:
        refused(archive, "does not contain rows")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_size_that_is_claimed_claims_no_memory() -> None:
    head = members_of(written())[0]
    start = header_of(*_sized(head)) + head[1] + padding_of(len(head[1]))
    for size in (2000, 2**20, 2**33 - 1):
        tracemalloc.start()
        try:
            refused(start + header_of("rows/000000001.animal.msgpack", size) + bytes(2048), "it ends within")
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


def test_many_small_rows_do_not_come_in_one_large_part() -> None:
    """They would need many times its size."""
    count = PART_BYTES // 3 + 10
    rows = b"\xdd" + count.to_bytes(4, "big") + b"\x92\x01\xc0" * count
    refused(composed([members_of(written())[0], ("rows/000000001.animal.msgpack", rows)]), "the maximum size of a part")


def test_a_part_has_many_small_rows_or_one_large_one() -> None:
    large = os.urandom(3 * PART_BYTES)
    rows = [("image", (number, b"x" * 1000)) for number in range(2500)]
    archive = written([*rows[:2000], ("image", (2000, large)), *rows[2001:]])
    parts = read(archive)
    assert [row[0] for part in parts for row in part.rows] == list(range(2500))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [len(part.rows) for part in parts if part.rows[0][0] == 2000] == [1]
    assert all(len(data) <= PART_BYTES + 5 or data[:1] == b"\x91" for _, data in members_of(archive)[1:])
    assert len(parts) < 10


def with_manifest(data: bytes) -> bytes:
    return composed([("manifest.json", data)])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: b"{}", "manifest.json is not valid"),
        (lambda text: b"[" * 100_000, "manifest.json is not valid"),
        (lambda text: text.replace(b"xtrace-archive", b"other"), "not an archive of XTrace"),
        (lambda text: text.replace(b'"version": 1', b'"version": 2'), "version 2 of the format, expected 1"),
        (lambda text: text.replace(b'"name": "empty"', b'"name": "animal"'), "lists a table twice"),
        (lambda text: text.replace(b'"name": "empty"', b'"name": "a b"'), "manifest.json is not valid"),
        (lambda text: text.replace(b'"name": "empty"', b'"name": "../empty"'), "manifest.json is not valid"),
        (lambda text: text.replace(b'"next_key": 9', b'"next_key": 0'), "manifest.json is not valid"),
        (lambda text: text.replace(b'"kind"', b'"sort"'), "manifest.json is not valid"),
        (lambda text: text + b" " * 2**20, "not an archive of XTrace"),
    ],
)
def test_a_manifest_that_is_not_valid_is_refused(change: Callable[[bytes], bytes], why: str) -> None:
    text = members_of(written([]))[0][1]
    assert read(with_manifest(text)) == []
    changed = change(text)
    assert changed != text
    refused(with_manifest(changed), why)


def test_a_column_of_an_unknown_type_is_refused() -> None:
    other = manifest(Table("animal", (Column("pk", "object", False),)))
    refused(written([("animal", (1,))], other), "a column of an unknown type")


def test_other_files_are_refused(tmp_path: Any) -> None:
    refused(b"")
    refused(b"SQLite format 3\0" + bytes(4096))
    refused(os.urandom(10_000))
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
    refused(other.getvalue())


KNOWN_ANSWER = "5b5da19c4cdbf1c453fb6eeecd9293be9e04f658ded3a1ba175b9dbf12054c6e"
