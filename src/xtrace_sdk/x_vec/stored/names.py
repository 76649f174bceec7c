"""Agrees with all clients, through the service, on the salt for names in a knowledge base."""

from contextlib import suppress

from xtrace_sdk.errors import ContextNotFound, ContextRetired, ForeignNameSalt, InvalidArgument
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.lineage import of_each
from xtrace_sdk.x_vec.contexts.names import ChunkNames


async def agreed_names(context: ExecutionContext, integration: XTraceIntegration, kb_id: str) -> ChunkNames:
    """Returns the names of chunks in a knowledge base, which are the same for all clients.

    The first client's salt stays. During a rotation, the predecessor's salt applies and is passed on, so clients of
    either context derive the same names. Needs write permission. Raises `ForeignNameSalt`.
    """
    salt = context.new_name_salt(kb_id)
    for one in context.lineage:
        try:
            salt = await integration.store_name_salt(kb_id, one.id, salt)
        except (ContextNotFound, ContextRetired):  # nothing is named under the predecessor any longer
            if one is context:
                raise
    return context.chunk_names(kb_id, salt)


async def pass_on_salt(
    old: ExecutionContext, new: ExecutionContext, integration: XTraceIntegration, kb_id: str
) -> None:
    """Stores the predecessor's salt for its successor, so that chunks are still recognised by their old names."""
    salt = await integration.get_name_salt(kb_id, old.id)
    if salt is not None:  # it is checked when it is used to name chunks
        await integration.store_name_salt(kb_id, new.id, salt)


async def stored_names(context: ExecutionContext, integration: XTraceIntegration, kb_id: str) -> ChunkNames | None:
    """Returns the same for a client that only reads; None if nothing has been named there yet."""
    found = await of_each(context, lambda one: integration.get_name_salt(kb_id, one.id))
    stored = [salt for _, salt in found if salt is not None]
    return context.chunk_names(kb_id, stored[-1]) if stored else None


async def adopt_names(context: ExecutionContext, integration: XTraceIntegration, kb_id: str, copied_from: str) -> None:
    """See `DataLoader.adopt_names`."""
    found = await of_each(context, lambda one: integration.get_name_salt(kb_id, one.id))
    salts = [(one.id, stored) for one, stored in found if stored is not None]
    if not salts:
        raise InvalidArgument(
            f"the knowledge base {kb_id} has no salt for names, expected the salt of {copied_from}: copy it with "
            f"its chunks"
        )
    for context_id, stored in salts:
        if not _is_for(context, kb_id, stored):
            if not _is_for(context, copied_from, stored):
                raise ForeignNameSalt(
                    f"the service's salt for the names of chunks in the knowledge base {kb_id} was not made for "
                    f"{copied_from} either: it comes from another knowledge base, or was changed"
                )
            own = context.chunk_names(copied_from, stored).salt_for(kb_id)
            with suppress(ContextRetired):  # nothing is named under it any longer
                await integration.store_name_salt(kb_id, context_id, own, replaces=stored)


def _is_for(context: ExecutionContext, kb_id: str, stored: bytes) -> bool:
    try:
        context.chunk_names(kb_id, stored)
    except ForeignNameSalt:
        return False
    return True
