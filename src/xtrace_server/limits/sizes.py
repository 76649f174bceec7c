"""Checks the contents of a request against the limits in the settings.

`TooLarge` (413) means too many items, which can be sent in several requests; `LimitExceeded` (422) means a single value
that is too large. Each message names the limit and its value.
"""

from collections.abc import Sequence, Sized
from typing import Any

from msgspec import UNSET

from xtrace_core import wire
from xtrace_core.write_cost import metadata_cost, write_cost
from xtrace_server.errors import LimitExceeded, TooLarge
from xtrace_server.settings import Settings


def check_count(settings: Settings, limit: str, items: Sized, what: str) -> None:
    """Raises `TooLarge` for more items than one request may contain."""
    allowed = getattr(settings, limit)
    if len(items) > allowed:
        raise TooLarge(f"the request has {len(items)} {what}, at most {allowed} are allowed ({limit}): send fewer")


def check_chunks(
    settings: Settings, sent: Sequence[wire.NewChunk | wire.ChunkUpdate | wire.ChunkPatch], field: str
) -> None:
    """Checks the chunks of an insertion, update or patch, and their number."""
    check_count(settings, "max_chunks", sent, "chunks")
    cost = write_cost(sent)
    if cost > settings.max_write_cost:
        raise TooLarge(
            f"the request costs {cost}, at most {settings.max_write_cost} is allowed (max_write_cost; a chunk costs 1, "
            "and so do five facets or 5,000 bytes): send fewer chunks at a time"
        )
    for i, chunk in enumerate(sent):
        where = f"{field}[{i}]"
        _check(settings, "max_content_bytes", chunk.chunk_content, f"{where}.chunk_content")
        _check(settings, "max_ciphertexts", chunk.index, f"{where}.index")
        _check(settings, "max_name_characters", chunk.name, f"{where}.name")
        if isinstance(chunk.meta_data, wire.MetaData):
            check_meta_data(settings, chunk.meta_data, f"{where}.meta_data")


def check_meta_data(settings: Settings, meta_data: wire.MetaData, where: str) -> None:
    """Checks the tags and facets of a chunk or a patch."""
    for tag in wire.TAGS:
        if value := getattr(meta_data, tag):
            _check(settings, "max_tag_characters", value, f"{where}.{tag}")
    facets = meta_data.facets
    if facets is UNSET or facets is None:
        return
    _check(settings, "max_facets", facets, f"{where}.facets")
    # There may be many, and hardly ever is one of them too long: only then it is looked for.
    if max(map(len, facets), default=0) > settings.max_tag_characters:
        for i, facet in enumerate(facets):
            _check(settings, "max_tag_characters", facet, f"{where}.facets[{i}]")


def check_patch(settings: Settings, change: wire.MetaData, chunks: int) -> None:
    """Checks that patching the metadata of this many chunks fits into one transaction."""
    most = max(settings.max_write_cost // metadata_cost(change), 1)
    if chunks > most:
        raise LimitExceeded(
            f"the filter matches {chunks} chunks, at most {most} can be patched at once (max_write_cost): use a "
            "narrower filter, or patch by ids"
        )


def check_query(settings: Settings, query: Sequence[bytes]) -> None:
    """Checks an encrypted query."""
    _check(settings, "max_ciphertexts", query, "query")


def check_projection(settings: Settings, names: Sequence[str] | None) -> None:
    """Checks the number of fields in a projection."""
    _check(settings, "max_projection", names, "projection")


def check_names(settings: Settings, name: str, description: str) -> None:
    """Checks the name and description of a new object."""
    _check(settings, "max_name_characters", name, "name")
    _check(settings, "max_name_characters", description, "description")


def check_context(settings: Settings, data: wire.ContextData) -> None:
    """Checks the texts of an execution context."""
    for field in data.__struct_fields__:
        _check(settings, "max_context_bytes", getattr(data, field), f"data.{field}")


def _check(settings: Settings, limit: str, value: Any, where: str) -> None:
    if value is UNSET or value is None:
        return
    allowed = getattr(settings, limit)
    # UTF-8 has at most four bytes per character: the exact length is counted only if it can matter.
    size = len(value)
    if limit.endswith("_bytes") and 4 * size > allowed and isinstance(value, str) and not value.isascii():
        size = len(value.encode())
    if size > allowed:
        unit = "bytes" if limit.endswith("_bytes") else "characters" if isinstance(value, str) else "elements"
        raise LimitExceeded(f"{where} has {size} {unit}, at most {allowed} are allowed ({limit})")
