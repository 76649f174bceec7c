"""The encrypted search."""

from collections.abc import Sequence

from xtrace_core.metadata_filter import EVERY_CHUNK
from xtrace_core.schemes.interface import InvalidCiphertext, Query
from xtrace_server.auth.guard import ApiCaller
from xtrace_server.errors import CiphertextRefused, ContextNotFound
from xtrace_server.limits.sizes import check_count, check_query
from xtrace_server.operations.evaluations import evaluation_of
from xtrace_server.scope import SearchScope
from xtrace_server.search.engine import SearchTarget
from xtrace_server.search.running import Search
from xtrace_server.state import ServerState
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import Reserve
from xtrace_server.storage.database import Connection


async def search(
    state: ServerState, caller: ApiCaller, scope: SearchScope, queries: Sequence[Query], field: str, reserve: Reserve
) -> Search:
    """Returns a search with these queries over the chunks in the scope; `field` is their field in the request.

    Raises `KnowledgeBaseNotFound`, `ContextNotFound`, `CiphertextRefused`, `TooLarge` and `LimitExceeded`.
    """
    check_count(state.settings, "max_queries", queries, "queries")
    for query in queries:
        check_query(state.settings, query)

    async def find(connection: Connection) -> SearchTarget:
        target = await caller.target(connection, scope.kb_id, scope.context_id)
        if target.public is None:
            raise ContextNotFound(scope.context_id)
        evaluation, binding = evaluation_of(state.schemes, *target.public), target.binding
        return SearchTarget(evaluation, None if binding is None else Candidates(target.grant.kb, binding, scope))

    if scope.filter != EVERY_CHUNK:
        state.figures.add(caller.organisation_id, filtered=1)
    try:
        return await state.engine.search(caller.organisation_id, find, queries, reserve, filtered=scope.selects)
    except InvalidCiphertext as error:
        raise CiphertextRefused(f"{field}: {error}") from None
