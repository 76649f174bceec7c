"""Opens the content of stored chunks, authenticated with its vector, under the context or its predecessor."""

from collections.abc import Iterable, Mapping
from typing import Any

from xtrace_sdk.errors import ContentTampered
from xtrace_sdk.x_vec.chunks.envelope import Content, unpack
from xtrace_sdk.x_vec.chunks.private_metadata import FIELDS, clear_meta_data
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

Chunk = Mapping[str, Any]


def open_content(context: ExecutionContext, kb_id: str, chunk: Chunk) -> Content:
    """Opens the content of a fetched chunk, with its nonce if it has one, under this context.

    Raises `ContentTampered` and `UnknownContent`.
    """
    stored, nonce = chunk.get("chunk_content", ""), chunk.get("nonce") or b""
    if context.aes.binds_nonces and not nonce:
        raise ContentTampered("it has no nonce: the nonce was removed, or the chunk was written by other software")
    if not context.accepted.contents(kb_id, [{**chunk, "chunk_content": stored}]).all():
        raise ContentTampered(
            "it is stored under the replaced context's keys, and does not match the manifest: it was written or "
            "changed since, perhaps with stolen keys"
        )
    return unpack(context.aes.decrypt_bytes(stored, nonce))


def open_under_lineage(context: ExecutionContext, kb_id: str, chunk: Chunk) -> tuple[ExecutionContext, Content]:
    """Opens the content, and returns it with its context: the given one or its predecessor. Raises as
    `open_content`."""
    *before, own = context.lineage
    for predecessor in before:
        # A nonce distinguishes chunks of a native context from those of another client's. Between two native contexts,
        # only their keys do, and both authenticate by the same rule.
        if not predecessor.aes.binds_nonces and not chunk.get("nonce"):
            return predecessor, open_content(predecessor, kb_id, chunk)
        if predecessor.aes.binds_nonces:
            try:
                return own, open_content(own, kb_id, chunk)
            except ContentTampered:
                return predecessor, open_content(predecessor, kb_id, chunk)
    return own, open_content(own, kb_id, chunk)


def clear_chunk(
    context: ExecutionContext, chunk: Mapping[str, Any], content: Content, shown: Iterable[str] = FIELDS
) -> dict[str, Any]:
    """Returns a fetched chunk with its text, the user's name for it, if any, and its metadata values in `shown`.

    For a record of a collection, only the text is plaintext.

    Raises `ContentTampered` if its private metadata does not match its content.
    """
    clear = {**chunk, "chunk_content": content.text}
    if content.record is not None:  # its tags and facets are the collection's hashes
        return clear
    if content.name is not None:
        clear["name"] = content.name
    if context.private_metadata and shown:
        clear["meta_data"] = clear_meta_data(context, chunk.get("meta_data", {}), content.meta_data, shown)
    return clear
