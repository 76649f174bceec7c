"""Made by `scripts/sync-twins` from `xtrace_sdk.x_vec.upkeep.audit.fetching`: change that, and run the script."""

from xtrace_sdk.sync._background import core_of, run
from xtrace_sdk.sync._integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.saved_context import PublicParts
from xtrace_sdk.x_vec.upkeep.audit import fetching as core
from xtrace_sdk.x_vec.upkeep.audit.samples import Sample


def fetch_samples(integration: XTraceIntegration, kb_id: str, public: PublicParts, count: int) -> list[Sample]:
    """Returns the newest chunks, at most `count`, in the knowledge base under the key of these public parts.

    Raises what the calls raise.
    """
    return run(core.fetch_samples(core_of(integration), kb_id, public, count))
