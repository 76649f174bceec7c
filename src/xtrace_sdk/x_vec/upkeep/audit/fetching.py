"""Fetches ciphertexts of a context from the service; read permission is enough."""

from collections.abc import AsyncGenerator

from xtrace_core.wire import ciphertext_from_bytes
from xtrace_sdk.errors import ContextNotFound
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts, parse_public
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample


async def fetch_samples(integration: XTraceIntegration, kb_id: str, public: PublicParts, count: int) -> list[Sample]:
    """Returns the newest chunks, at most `count`, in the knowledge base under the key of these public parts.

    Raises what the calls raise.
    """
    chunks: list[Sample] = []
    async for context_id in ids_of(integration, kb_id, public):
        if len(chunks) >= count:
            break
        page = await integration.meta_search_paginated(
            kb_id, context_id, projection=["index", "nonce"], limit=count - len(chunks)
        )
        chunks += [
            Sample(tuple(map(ciphertext_from_bytes, chunk.get("index", ()))), chunk.get("nonce"))
            for chunk in page.results
        ]
    return chunks


async def ids_of(integration: XTraceIntegration, kb_id: str, public: PublicParts) -> AsyncGenerator[str, None]:
    """Returns the ids under which a context with these public parts is bound to the knowledge base.

    The file is not enough, because other clients' files lack an id. Raises what the calls raise.
    """
    for context_id in await integration.get_ctx_for_kb(kb_id):
        if await _has_key(integration, context_id, public):
            yield context_id


async def _has_key(integration: XTraceIntegration, context_id: str, public: PublicParts) -> bool:
    try:
        stored = parse_public(await integration.get_serialized_exec_context(context_id), "the service's answer")
    except ContextNotFound:  # deleted since
        return False
    return stored.public_data() == public.public_data()
