"""Writing transactions of callers, who must still be who they were when their request began."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xtrace_server.auth.guard import Actor, ApiCaller
from xtrace_server.state import ServerState
from xtrace_server.storage.database import Connection


@asynccontextmanager
async def writing(state: ServerState, caller: ApiCaller | Actor) -> AsyncIterator[Connection]:
    """A writing transaction in which the caller's key holds; what is revoked later is revoked after it.

    A body may arrive long after its headers. What is done with an admin key is short, and goes first.
    Raises `Unauthenticated` if the key was revoked meanwhile.
    """
    async with state.database.write(caller.organisation_id, urgent=isinstance(caller, Actor)) as connection:
        await caller.check_current(connection)
        yield connection
