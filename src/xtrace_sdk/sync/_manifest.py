"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.upkeep.manifest`: change that, and run the script."""

import os

from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.upkeep import manifest as core
from xtrace_sdk.x_vec.upkeep.manifest import ManifestSummary


def write_manifest(
    integration: XTraceIntegration, kb_id: str, context: ExecutionContext | PublicParts, path: str | os.PathLike[str]
) -> ManifestSummary:
    """Writes the manifest of all chunks of a knowledge base that are stored under a context, atomically.

    The public part of a context is enough (`read_public_file`). The manifest lists what the service returns: if you do
    not trust that, run `verify` first. Chunks stored or changed later are not in it. Memory does not grow with the
    number of chunks. Raises `InvalidArgument` if nothing was ever stored under the context there, `InaccessibleFile`,
    and what `XTraceIntegration` raises.
    """
    return run(core.write_manifest(core_of(integration), kb_id, context, path))
