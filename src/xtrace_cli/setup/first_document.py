"""The last step of `xtrace init`: encrypts and stores a document, and finds it again."""

from typing import TYPE_CHECKING, Final, NamedTuple

from xtrace_cli.options.connection import run_with
from xtrace_cli.options.settings import current_settings
from xtrace_cli.setup.server import ChosenServer
from xtrace_cli.workspace import Workspace
from xtrace_sdk.errors import PermissionDenied, XTraceError

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

EXAMPLE: Final = "The March invoice is still unpaid."
_ID: Final = "xtrace-first-document"


class NotFoundAgain(XTraceError):
    """A search did not find the stored document."""


class Tested(NamedTuple):
    """What was tried."""

    kb_id: str
    may_write: bool
    """Whether the document was stored: a key may have the right to read alone, and then the test is a search."""


def store_and_find(server: ChosenServer, context: "ExecutionContext", kb: str, text: str | None) -> Tested:
    """Stores the text in the knowledge base of this name, and searches for it.

    Without a text it is an example, which is deleted again. Raises `NotFoundAgain` and what the calls raise;
    `PermissionDenied` for a key without the right to write only if there is a text.
    """

    async def call(xtrace: "XTraceIntegration") -> Tested:
        from xtrace_sdk.collection.record import Record

        collection = await Workspace(xtrace, context, current_settings()).document_collection(kb, create=True)
        may_write = True
        try:
            await collection.upsert([Record(_ID, text or EXAMPLE, {"source": "xtrace init"})])
        except PermissionDenied:
            if text is not None:
                raise
            may_write = False
        hits = await collection.search(text or EXAMPLE)
        if may_write:
            if text is None:
                await collection.delete([_ID])
            if _ID not in (hit.record.id for hit in hits):
                raise NotFoundAgain("the first document was stored, but a search did not find it: run xtrace doctor")
        return Tested(collection.kb_id, may_write)

    return run_with(server.integration(), call)
