"""The first member of an archive: the tables that follow, with their columns."""

from typing import Annotated, Any, Final

import msgspec

from xtrace_server.archive.container import ArchiveUnusable

MANIFEST: Final = "manifest.json"
CHECKSUMS: Final = "SHA256SUMS"
FORMAT: Final = "xtrace-archive"
VERSION: Final = 1
BACKUP: Final = "backup"
"""An archive of a whole database."""
EXPORT: Final = "knowledge_base"
"""An archive of one knowledge base."""
MAX_MANIFEST_BYTES: Final = 2**20

_Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_]*\Z", max_length=63)]

VALUES: Final[dict[str, Any]] = {"integer": _Integer, "real": float, "boolean": bool, "text": str, "binary": bytes}
"""The Python type of each type of column."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column of a table; `type` is a key of `VALUES`."""

    name: _Name
    type: str
    nullable: bool


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table; `next_key` is the smallest number that its next row may get, or null if rows are not numbered."""

    name: _Name
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=1000)]
    next_key: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)] | None = None

    def rows(self) -> msgspec.msgpack.Decoder[list[tuple[Any, ...]]]:
        """Returns a decoder that accepts only rows of this table. Raises `ArchiveUnusable`."""
        try:
            values = [VALUES[column.type] | None if column.nullable else VALUES[column.type] for column in self.columns]
        except KeyError:
            raise ArchiveUnusable(f"the table {self.name} has a column of an unknown type") from None
        return msgspec.msgpack.Decoder(list[tuple[tuple(values)]])  # type: ignore[misc]  # made at run time


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An archive's description of itself. `schema` is the version of the database's schema."""

    format: str
    version: int
    kind: str
    created_at: str
    written_by: str
    schema: str
    tables: Annotated[tuple[Table, ...], msgspec.Meta(max_length=1000)]

    def encoded(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


class _Head(msgspec.Struct, frozen=True):
    format: str
    version: int


def decoded(data: bytes) -> Manifest:
    """Returns the manifest. Raises `ArchiveUnusable`."""
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format != FORMAT:
            raise ArchiveUnusable("it is not an archive of XTrace")
        if head.version != VERSION:
            raise ArchiveUnusable(f"it has version {head.version} of the format, expected {VERSION}")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ArchiveUnusable(f"its {MANIFEST} is not valid") from None
    if len({table.name for table in manifest.tables}) != len(manifest.tables):
        raise ArchiveUnusable(f"its {MANIFEST} lists a table twice")
    return manifest
