"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.stored.sealing`: change that, and run the script."""

from collections.abc import Collection

from xtrace_sdk.arguments import Count, Positive
from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored import sealing as core
from xtrace_sdk.x_vec.stored.sealing import ERASE_AFTER_DAYS, FIRST_ROWS, SealSummary


def seal_chunks(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_id: str,
    *,
    first_rows: Positive = FIRST_ROWS,
    erase_after_days: Count = ERASE_AFTER_DAYS,
    remake: Collection[int] = (),
) -> SealSummary:
    """Seals the chunks of a knowledge base that are in no block, 1,024 in each block, and replaces outdated blocks.

    Args:
        context: a context of a scheme with blocks (`lattice`).
        integration: the connection; the key needs permission to write.
        kb_id: the knowledge base.
        first_rows: the number of chunks at which the first blocks are made.
        erase_after_days: a block with a vector that was deleted or replaced this many days ago is replaced.
        remake: the ids of other blocks to replace, for example damaged ones; unknown ids are ignored.

    Fewer than 1,024 chunks stay in no block, and so do those that others seal or change meanwhile. It is safe to
    interrupt or repeat this. Raises `InvalidRows`, which names chunks whose records are not authentic,
    `InvalidRequest` for a scheme without blocks, `NotFound` if the service does not support blocks, and what
    `XTraceIntegration` raises.
    """
    return run(
        core.seal_chunks(
            context,
            core_of(integration),
            kb_id,
            first_rows=first_rows,
            erase_after_days=erase_after_days,
            remake=remake,
        )
    )
