"""What an organisation has, at a glance."""

from dataclasses import dataclass

from xtrace_server.auth.guard import Actor
from xtrace_server.state import ServerState
from xtrace_server.storage import summaries


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of each an organisation has."""

    knowledge_bases: int
    deleting: int
    """Knowledge bases that were deleted, and whose chunks have still to go."""
    api_keys: int
    """Those that are not revoked, expired ones too."""
    contexts: int


async def counts(state: ServerState, actor: Actor) -> Counts:
    """Counts what the organisation has."""
    async with state.database.look_up() as connection:
        return Counts(*await summaries.count_all(connection, actor.organisation_id))
