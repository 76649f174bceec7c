"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.upkeep.copying`: change that, and run the script."""

from xtrace_sdk.arguments import Positive
from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.upkeep import copying as core
from xtrace_sdk.x_vec.upkeep.copying import BATCH_SIZE, CopySummary


def copy_knowledge_base(
    source: XTraceIntegration,
    kb_id: str,
    target: XTraceIntegration,
    target_kb_id: str,
    context: ExecutionContext,
    *,
    batch_size: Positive = BATCH_SIZE,
) -> CopySummary:
    """Copies the chunks under a context that the target does not have yet, and verifies the whole copy.

    Args:
        source: the service to copy from; its key needs read permission.
        kb_id: the knowledge base to copy.
        target: the service to copy to, the same or another; its key needs read and write permission.
        target_kb_id: the knowledge base to copy to. It must not contain chunks under this context, except from copies
            of the same source.
        context: the context whose chunks are copied; it also reads the copy.
        batch_size: chunks that are fetched and stored together.

    Call it again to resume after an interruption, or to copy chunks added since. Chunks that were changed or deleted
    in the source since an earlier copy stay unchanged in the target. Ids and times are assigned by the target.

    Both services see ciphertexts, hashed names, and metadata as stored in the source. Each learns how many chunks are
    copied, and in which batches.

    Raises `InvalidArgument` during a rotation, and for a target with incompatible names; `TamperedData` if the target
    does not return what it stored; `ForeignNameSalt`, and what `XTraceIntegration` raises.
    """
    return run(
        core.copy_knowledge_base(core_of(source), kb_id, core_of(target), target_kb_id, context, batch_size=batch_size)
    )
