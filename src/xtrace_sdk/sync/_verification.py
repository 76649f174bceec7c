"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.upkeep.verification`: change that, and run the script."""

from collections.abc import Iterable

from xtrace_sdk.arguments import Positive
from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.upkeep import verification as core
from xtrace_sdk.x_vec.upkeep.bad_chunks import BadChunk
from xtrace_sdk.x_vec.upkeep.verification import BATCH_SIZE, Verification


def delete_bad(integration: XTraceIntegration, kb_id: str, bad: Iterable[BadChunk]) -> list[int]:
    """Deletes bad chunks and returns their ids; those that were written since they were read are left alone.

    This cannot be undone, and it cannot be told whether the service damaged them on their way here: have the
    texts elsewhere. The service learns which of the chunks that it gave were bad. Give the whole list at once, after
    someone has looked at it. Raises what `XTraceIntegration` raises; the key needs permission to delete.
    """
    return run(core.delete_bad(core_of(integration), kb_id, bad))


def verify(
    context: ExecutionContext, integration: XTraceIntegration, kb_id: str, *, batch_size: Positive = BATCH_SIZE
) -> Verification:
    """Reads every chunk of a knowledge base under the context, and its predecessor if it has one; changes nothing.

    A chunk is good if its ciphertexts decrypt under both primes to a vector of the context's length with the noise of
    its nonce, its content is authentic under that nonce, and its private metadata, or the hashes of a record of a
    collection, are those of its content. What the service withholds, other metadata, and an older state are not
    noticed; compare `chunks` with how many you stored.

    Where any chunk is bad, all are read once more, and only what is bad both times is listed. So the service
    learns that everything was read, and whether any chunk was bad at all.

    Blocks are checked by one search with a random vector. A block is good if the context sealed it for this knowledge
    base, each of its chunks is stored and nowhere else, and the service computes their distances; where all its chunks
    are unchanged, it is also made again from them and compared. This takes some microseconds and 0.1 KB of memory for
    each chunk. Replace bad blocks with `seal_chunks(remake=)`.

    Raises `InvalidArgument`, also if nothing was ever stored there under the context, `BlockDamaged` if the service
    itself finds a block damaged, and what `XTraceIntegration` raises.
    """
    return run(core.verify(context, core_of(integration), kb_id, batch_size=batch_size))
