"""Explains why a search without restrictions had no candidates."""

import warnings

from xtrace_sdk.errors import NothingToSearch, PermissionDenied
from xtrace_sdk.notices import NothingStored
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext


async def explain_emptiness(context: ExecutionContext, integration: XTraceIntegration, kb_id: str) -> None:
    """Raises `NothingToSearch` if the knowledge base has other contexts; otherwise warns that it is empty.

    This takes one more request, only if there were no candidates although every chunk of the context was eligible.
    """
    others = await _bound(integration, kb_id) - {one.id for one in context.lineage}
    if others:
        raise NothingToSearch(
            f"nothing in the knowledge base {kb_id} is stored under this context ({context.id[:12]}…), but "
            f"{_counted(len(others))} in use there ({', '.join(sorted(one[:12] + '…' for one in others)[:3])}): "
            "search with the context that the chunks were loaded with"
        )
    warnings.warn(
        f"nothing is stored in the knowledge base {kb_id} under this context yet, so the search found nothing",
        NothingStored,
        stacklevel=2,
    )


async def _bound(integration: XTraceIntegration, kb_id: str) -> set[str]:
    """Returns the contexts of the knowledge base, as far as the key may see them."""
    try:
        return set(await integration.get_ctx_for_kb(kb_id))
    except PermissionDenied:
        return set()


def _counted(others: int) -> str:
    return "another one is" if others == 1 else f"{others} others are"
