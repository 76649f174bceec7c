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
    """Moves the chunks under the context's predecessor to the context, and says how many; call it again to go on.

    Args:
        context: made by `ExecutionContext.successor`, and saved: its keys must not be in this process alone.
        integration: the service; its key needs permission to write, and to delete for `finish` and `remove_old`.
        kb_ids: the knowledge bases; by default all that the predecessor is bound to.
        batch_size: chunks a write.
        finish: retires the predecessor at the end, so that the service stores nothing more under it, moves what came
            in between, and takes the old keys out of `context`: save that again then. This cannot be undone.
        remove_old: finishes, and deletes the predecessor from the service.
        dry_run: reads and decrypts every chunk, and changes nothing.
        instead_of: the id of another context that a rotation was begun into, and whose keys are lost.

    Retrievers of `context` see each chunk exactly once all the while. Until the end others may go on writing, under
    either context: what they change while its batch is on its way is left alone, and moved by the next.

    Where the context was made with manifests, the predecessor is retired at the beginning, only chunks that are listed
    move, and `left` says how many others there are; `verify` lists them.

    At a chunk that does not decrypt, it reads all that is left again, twice, before it does anything else. The service
    learns which chunks are old, and in which batches it showed one that does not decrypt, three times at most.

    A context is rotated into one other context only: the service keeps the id of the first one that comes.

    Raises `OtherRotation` if that is not this one, `InvalidArgument`, `TamperedData` naming chunks that do not decrypt
    (nothing of their batch is moved), `ContextInUse`, and what `XTraceIntegration` raises.
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
