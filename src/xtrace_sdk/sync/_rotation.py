"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.upkeep.rotation`: change that, and run the script."""

from collections.abc import Iterable

from xtrace_sdk.arguments import Positive
from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.upkeep import rotation as core
from xtrace_sdk.x_vec.upkeep.rotation import BATCH_SIZE, RotationSummary


def rotate(
    context: ExecutionContext,
    integration: XTraceIntegration,
    kb_ids: Iterable[str] | None = None,
    *,
    batch_size: Positive = BATCH_SIZE,
    finish: bool = False,
    remove_old: bool = False,
    dry_run: bool = False,
    instead_of: str | None = None,
) -> RotationSummary:
    """Moves the chunks under the context's predecessor to the context, and returns how many; call it again to resume.

    Args:
        context: created by `ExecutionContext.successor` and saved, so that its keys are not only in this process.
        integration: the service; its key needs write permission, and delete permission for `finish` and `remove_old`.
        kb_ids: the knowledge bases; by default all that the predecessor is bound to.
        batch_size: chunks in one write.
        finish: at the end retires the predecessor, so that the service stores nothing more under it, moves chunks
            written meanwhile, and removes the old keys from `context`: save it again afterwards. This cannot be
            undone.
        remove_old: finishes, and then deletes the predecessor from the service.
        dry_run: reads and decrypts every chunk without changing anything.
        instead_of: the id of another context to which a rotation was started, if its keys are lost.

    During the rotation, retrievers with `context` see each chunk exactly once. Others may keep writing under either
    context until the end: chunks that they change while a batch is in progress are not overwritten, and move with a
    later batch.

    If the context was created with manifests, the predecessor is retired at the beginning and only listed chunks move.
    `left` counts the others, and `verify` lists them.

    If a chunk does not decrypt, everything that remains is read twice more before anything else happens. The service
    learns which chunks are old, and which batches contained a chunk that does not decrypt, at most three times.

    A context can be rotated into only one other context: the service stores the id of the first one.

    Raises `OtherRotation` if that is a different one, `InvalidArgument`, `TamperedData` with the ids of chunks that do
    not decrypt (nothing of their batch is moved), `ContextInUse`, and what `XTraceIntegration` raises.
    """
    return run(
        core.rotate(
            context,
            core_of(integration),
            kb_ids,
            batch_size=batch_size,
            finish=finish,
            remove_old=remove_old,
            dry_run=dry_run,
            instead_of=instead_of,
        )
    )
