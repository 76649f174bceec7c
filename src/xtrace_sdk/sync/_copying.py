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
    """Copies the chunks under a context that the target does not have yet, and reads the copy to the end.

    Args:
        source: the service to copy from; its key needs permission to read.
        kb_id: the knowledge base to copy.
        target: the service to copy to, the same or another; its key needs permission to read and write.
        target_kb_id: the knowledge base to copy to. Nothing was loaded into it under this context, other than by
            copies of the same source.
        context: what is stored under it is copied; the same context, or one with the same keys, reads the copy.
        batch_size: chunks that are fetched and stored together.

    Call it again to go on after an interruption, or to copy what was added since. Chunks that were changed or deleted
    in the source since an earlier copy stay in the target as they are. Ids and times are the target's own.

    Either service sees ciphertexts, names as hashes, and metadata as the source has it. Each learns how many chunks
    are copied, and in which batches.

    Raises `InvalidArgument` for a rotation that is not finished, and for a target with names of its own; `TamperedData`
    if the target does not give back what it stored; `ForeignNameSalt`, and what `XTraceIntegration` raises.
    """
    return run(
        core.copy_knowledge_base(core_of(source), kb_id, core_of(target), target_kb_id, context, batch_size=batch_size)
    )
