"""Opening the content of stored chunks: authenticated together with its vector, under whichever context it is."""

from collections.abc import Iterable, Mapping
from typing import Any

from xtrace_sdk.errors import ContentTampered
from xtrace_sdk.x_vec.chunks.envelope import Content, unpack
from xtrace_sdk.x_vec.chunks.private_metadata import FIELDS, clear_meta_data
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext


def open_content(context: ExecutionContext, stored: str, nonce: bytes) -> Content:
    """The content of a chunk that is stored under this context with this nonce (empty for none).

    Raises `ContentTampered` and `UnknownContent`.
    """
    if context.aes.binds_nonces and not nonce:
        raise ContentTampered("it came without its nonce: that was removed, or the chunk was written otherwise")
    return unpack(context.aes.decrypt(stored, nonce))


def open_under_lineage(context: ExecutionContext, stored: str, nonce: bytes) -> tuple[ExecutionContext, Content]:
    """The content, and which context it is stored under: the given one or its predecessor. Raises as `open_content`."""
    *before, own = context.lineage
    for predecessor in before:
        # A nonce tells the chunks of a context of ours from those of another client's. Between two of ours only
        # their keys do, and either authenticates by the same rule.
        if not predecessor.aes.binds_nonces and not nonce:
            return predecessor, open_content(predecessor, stored, nonce)
        if predecessor.aes.binds_nonces:
            try:
                return own, open_content(own, stored, nonce)
            except ContentTampered:
                return predecessor, open_content(predecessor, stored, nonce)
    return own, open_content(own, stored, nonce)


def clear_chunk(
    context: ExecutionContext, chunk: Mapping[str, Any], content: Content, shown: Iterable[str] = FIELDS
) -> dict[str, Any]:
    """A fetched chunk with its text, and the values of its metadata in `shown`.

    Raises `ContentTampered` if its private metadata is not that of its content.
    """
    clear = {**chunk, "chunk_content": content.text}
    if context.private_metadata and shown:
        clear["meta_data"] = clear_meta_data(context, chunk.get("meta_data", {}), content.meta_data, shown)
    return clear
