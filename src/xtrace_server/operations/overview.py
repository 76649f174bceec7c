"""A summary of what an organisation has."""

from dataclasses import dataclass

from xtrace_server.auth.guard import Actor
from xtrace_server.state import ServerState
from xtrace_server.storage import summaries


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of an organisation's objects."""

    knowledge_bases: int
    deleting: int
    """Deleted knowledge bases whose chunks are not yet deleted."""
    api_keys: int
    """Keys that are not revoked, including expired ones."""
    contexts: int


async def counts(state: ServerState, actor: Actor) -> Counts:
    """Counts what the organisation has."""
    async with state.database.look_up() as connection:
        return Counts(*await summaries.count_all(connection, actor.organisation_id))
