"""Metadata search on the client: filters and chunks have plaintext values."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from xtrace_sdk.arguments import MetaFilter
from xtrace_sdk.errors import ContentTampered, UnknownContent
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.private_metadata import Projection, check_sortable, hidden_filter
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.content import clear_chunk, open_content


async def search_metadata(
    context: ExecutionContext,
    integration: XTraceIntegration,
    meta_filter: MetaFilter | None,
    kb_id: str,
    projection: Sequence[str],
    sort_by: str,
    sort_order: str,
) -> AsyncGenerator[dict[str, Any], None]:
    """See `Retriever.iter_meta_search`."""
    asked = []
    for one in context.lineage:
        check_sortable(one, sort_by)
        asked.append((one, hidden_filter(one, meta_filter), Projection(one, projection)))
    seen: set[int] = set()
    for one, filter_, wanted in asked:
        async for chunk in integration.iter_meta_search(
            kb_id, filter_, one.id, projection=wanted.fetched, sort_by=sort_by, sort_order=sort_order
        ):
            # A rotation may have moved it since the predecessor was queried.
            if chunk["chunk_id"] not in seen and one.accepted.ids(kb_id, [chunk["chunk_id"]]).all():
                seen.add(chunk["chunk_id"])
                yield _clear(one, kb_id, chunk, wanted)


def _clear(context: ExecutionContext, kb_id: str, chunk: Mapping[str, Any], wanted: Projection) -> dict[str, Any]:
    if "chunk_content" not in wanted.fetched:
        return wanted.of(chunk)
    try:
        content = open_content(context, kb_id, chunk)
        return wanted.of(clear_chunk(context, chunk, content, wanted.read))
    except (ContentTampered, UnknownContent) as error:
        raise type(error)(f"chunk {chunk['chunk_id']}: {error}") from None
