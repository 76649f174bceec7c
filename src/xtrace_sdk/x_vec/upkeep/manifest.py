"""Records which chunks are stored under a context, in case its keys are stolen.

Write manifests while the keys are safe, and keep them where a thief of the keys cannot reach them (docs/keys.md,
"Stolen keys"). Writing needs no key.
"""

import asyncio
import hashlib
import os
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from xtrace_core.files import new_file
from xtrace_sdk.arguments import checked_call
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument
from xtrace_sdk.progress import progress_bar
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.manifest import MAX_MANIFEST_BYTES, manifest_head, manifest_record
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.stored.chunks import READ_FIELDS, count_chunks, stored_batches
from xtrace_sdk.x_vec.upkeep.audit.fetching import ids_of

BATCH_SIZE = 500
"""The number of chunks that are fetched together."""


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """The result of writing a manifest."""

    chunks: int
    digest: str
    """SHA-256 of the file, in hexadecimal."""


@checked_call
async def write_manifest(
    integration: XTraceIntegration, kb_id: str, context: ExecutionContext | PublicParts, path: str | os.PathLike[str]
) -> ManifestSummary:
    """Writes the manifest of all chunks of a knowledge base that are stored under a context, atomically.

    The public part of a context is enough (`read_public_file`). The manifest lists what the service returns: if you do
    not trust that, run `verify` first. Chunks stored or changed later are not in it. Memory does not grow with the
    number of chunks. Raises `InvalidArgument` if nothing was ever stored under the context there, `InaccessibleFile`,
    and what `XTraceIntegration` raises.
    """
    context_id = await _id_of(integration, kb_id, context)
    total = await count_chunks(integration, kb_id, context_id)
    try:
        with new_file(Path(path)) as file, progress_bar("Listing", total) as advance:
            count, head = 0, manifest_head(context_id, kb_id)
            digest, size = hashlib.sha256(head), file.write(head)
            async with aclosing(stored_batches(integration, kb_id, context_id, READ_FIELDS, BATCH_SIZE)) as read:
                async for batch in read:
                    records = b"".join(await asyncio.to_thread(list, map(manifest_record, batch)))
                    digest.update(records)
                    size += file.write(records)
                    count += len(batch)
                    if size > MAX_MANIFEST_BYTES:
                        raise InvalidArgument(
                            f"the knowledge base has more chunks than a manifest of {MAX_MANIFEST_BYTES} bytes can list"
                        )
                    advance(len(batch))
    except OSError as error:
        raise InaccessibleFile(f"the manifest cannot be written to {path}: {error.strerror}") from None
    return ManifestSummary(count, digest.hexdigest())


async def _id_of(integration: XTraceIntegration, kb_id: str, context: ExecutionContext | PublicParts) -> str:
    """Returns the id under which the chunks are stored; files of other software do not contain it."""
    if isinstance(context, ExecutionContext):
        stored = [one for one in await integration.get_ctx_for_kb(kb_id) if one == context.id]
    else:
        stored = [one async for one in ids_of(integration, kb_id, context)]
    if not stored:
        raise InvalidArgument("nothing was ever stored in this knowledge base under this context: is it the right one?")
    return stored[0]
