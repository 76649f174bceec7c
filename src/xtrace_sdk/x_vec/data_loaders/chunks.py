"""A user's chunks before encryption: what they must look like, and the names by which a second run knows them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from xtrace_core import metadata
from xtrace_sdk.errors import InvalidArgument, InvalidMetaData
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

_KEYS = frozenset({"chunk_content", "meta_data"})


@dataclass(frozen=True, slots=True)
class PlainChunk:
    """One chunk, checked; nothing of it is encrypted yet."""

    content: str
    meta_data: dict[str, Any]
    name: str


def plain_chunks(collection: Sequence[Mapping[str, Any]], context: ExecutionContext) -> list[PlainChunk]:
    """The chunks of a collection (`{"chunk_content": str, "meta_data": {…}}`), checked, with their names.

    A name is a pseudonym of metadata, text, and how many chunks of the collection with the same metadata and text come
    before: the same collection gives the same names again, and inserting a paragraph changes no other name.
    Raises `InvalidArgument` for a chunk of another form, `InvalidMetaData` for metadata outside the schema.
    """
    seen: Counter[tuple[str, str]] = Counter()
    chunks = []
    for position, item in enumerate(collection):
        content, meta_data = _checked(position, item)
        try:
            identity = (msgspec.json.encode(meta_data, order="sorted").decode(), content)
            name = context.pseudonym("chunk name", *identity, str(seen[identity]))
        except UnicodeEncodeError:  # its attributes hold the text
            raise InvalidArgument(
                f"chunk {position} of the collection holds unpaired surrogates, expected text that UTF-8 can hold"
            ) from None
        seen[identity] += 1
        chunks.append(PlainChunk(content, meta_data, name))
    return chunks


def _checked(position: int, item: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if set(item) - _KEYS or not isinstance(item.get("chunk_content"), str):
        raise InvalidArgument(
            f"chunk {position} of the collection has the keys {', '.join(sorted(map(str, item)))}, "
            "expected chunk_content (a text) and optionally meta_data"
        )
    try:
        meta_data = msgspec.to_builtins(metadata.parse_meta_data(item.get("meta_data")))
    except metadata.InvalidMetaData as error:
        raise InvalidMetaData(f"chunk {position} of the collection: {error}") from None
    return item["chunk_content"], meta_data
