"""Documents that are ZIP archives, checked before a library unpacks them."""

import io
import zipfile
from typing import Any, Final

from lxml import etree

from xtrace_cli.documents.sections import Source, UnusableFile

MAX_UNPACKED_BYTES: Final = 1 << 28
MAX_ENTRIES: Final = 20_000


def opened(source: Source) -> zipfile.ZipFile:
    """Opens the archive. Raises `UnusableFile` if it is not one, is encrypted, or unpacks to too much.

    Its declared sizes can be trusted as limits: `zipfile` never reads more of an entry than declared.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(source.data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        encrypted = source.data.startswith(b"\xd0\xcf\x11\xe0")
        raise UnusableFile(
            "it is encrypted with a password, or in an older format"
            if encrypted
            else "it is damaged, or in another format"
        ) from None
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
        raise UnusableFile(f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB or {MAX_ENTRIES} entries")
    if any(entry.flag_bits & 1 for entry in entries):
        raise UnusableFile("it is encrypted with a password")
    return archive


def parsed_xml(data: bytes) -> Any:
    """Returns the root of a possibly hostile document: reads nothing outside it, and expands no entities.

    Raises `UnusableFile`.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        raise UnusableFile("it is damaged: its XML is not valid") from None
