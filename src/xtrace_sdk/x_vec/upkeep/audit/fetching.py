"""Ciphertexts of a context, fetched from the service as everybody who may read there can."""

from xtrace_core.wire import ciphertext_from_bytes
from xtrace_sdk.errors import ContextNotFound
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, parse_public
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample


async def fetch_samples(integration: XTraceIntegration, kb_id: str, public: PublicParts, count: int) -> list[Sample]:
    """At most so many chunks, the newest, that are stored in the knowledge base under the key of these public parts.

    The context is known by its public parts, not by an id: what other clients save has none. Raises what the calls
    raise.
    """
    chunks: list[Sample] = []
    for context_id in await integration.get_ctx_for_kb(kb_id):
        if len(chunks) >= count or not await _has_key(integration, context_id, public):
            continue
        page = await integration.meta_search_paginated(
            kb_id, context_id, projection=["index", "nonce"], limit=count - len(chunks)
        )
        chunks += [
            Sample(tuple(map(ciphertext_from_bytes, chunk.get("index", ()))), chunk.get("nonce"))
            for chunk in page.results
        ]
    return chunks


async def _has_key(integration: XTraceIntegration, context_id: str, public: PublicParts) -> bool:
    try:
        stored = parse_public(await integration.get_serialized_exec_context(context_id), "the service's answer")
    except ContextNotFound:  # deleted since
        return False
    return stored.public_data() == public.public_data()
