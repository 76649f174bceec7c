"""The last step of `xtrace init`: encrypts and stores a document, and finds it again."""

from typing import TYPE_CHECKING, Final

from xtrace_cli.options.connection import run_with
from xtrace_cli.options.settings import current_settings
from xtrace_cli.setup.server import ChosenServer
from xtrace_cli.workspace import Workspace
from xtrace_sdk.errors import XTraceError

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration
    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

EXAMPLE: Final = "The March invoice is still unpaid."
_ID: Final = "xtrace-first-document"


class NotFoundAgain(XTraceError):
    """A search did not find the stored document."""


def store_and_find(server: ChosenServer, context: "ExecutionContext", kb: str, text: str | None) -> str:
    """Stores the text in the knowledge base of this name, searches for it, and returns the knowledge base's id.

    Without a text, it stores an example, and deletes it afterwards. Raises `NotFoundAgain` and what the calls raise.
    """

    async def call(xtrace: "XTraceIntegration") -> str:
        from xtrace_sdk.collection.record import Record

        collection = await Workspace(xtrace, context, current_settings()).document_collection(kb, create=True)
        await collection.upsert([Record(_ID, text or EXAMPLE, {"source": "xtrace init"})])
        hits = await collection.search(text or EXAMPLE)
        if text is None:
            await collection.delete([_ID])
        if _ID not in (hit.record.id for hit in hits):
            raise NotFoundAgain("the first document was stored, but a search did not find it: run xtrace doctor")
        return collection.kb_id

    return run_with(server.integration(), call)
