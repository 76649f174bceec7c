"""Decides how the vectors of a scheme with blocks are compared: by the fewest bytes, of which a sent one counts twice.

By *records*, the service sends the record of every candidate. By *blocks*, the client sends its encrypted query. The
service then sends 1.5 bytes for each candidate in a block and slab, and the records of the others. Neither the numbers
nor the choice depend on the query.
"""

from collections import OrderedDict
from typing import Final, Literal, NamedTuple

from xtrace_core.wire import MAX_BLOCK_QUERIES
from xtrace_sdk.limits import MAX_ANSWER_BYTES

MAX_SCOPES: Final = 256
"""The number of scopes whose numbers are remembered."""
_SENT_COUNTS: Final = 2
_DISTANT: Final = 2
"""How many times cheaper a way must be for the service not to be asked for the numbers again."""
_VALUE_BYTES: Final = 1.5
_IDS_BYTES: Final = 1024
"""The ids of a block's chunks, about."""


class Sizes(NamedTuple):
    """The bytes of what a search transfers under one context."""

    record: int
    """A candidate's record, with its nonce and id."""
    query: int
    slabs: int
    """The values of a vector."""
    hints: int
    """The header and the hints of a block, which are fetched once."""


class Counts(NamedTuple):
    """What there is in a scope."""

    candidates: int
    unsealed: int
    """The candidates in no block."""
    blocks: int


class SearchPlan(NamedTuple):
    """How the vectors of a search were compared, and why."""

    way: Literal["records", "blocks"]
    candidates: int
    records_bytes: int
    """What comparing by records transfers."""
    blocks_bytes: int | None
    """What comparing by blocks transfers, with sent bytes counted twice; None if there are no blocks."""

    @property
    def why(self) -> str:
        """The reason for the choice, as a clause."""
        if self.blocks_bytes is None:
            return f"by records, because none of the {self.candidates:,} candidates is in a block"
        costs = {"records": self.records_bytes, "blocks": self.blocks_bytes}
        other = "blocks" if self.way == "records" else "records"
        return (
            f"by {self.way}, which take about {_shown(costs[self.way])} for {self.candidates:,} candidates instead of "
            f"{_shown(costs[other])} by {other}"
        )


class Planner:
    """Chooses the way of each search under one context. Remembers what there is in the latest scopes."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._known: OrderedDict[str, Counts] = OrderedDict()

    def remembered(self, scope: str, queries: int, cached_blocks: int) -> SearchPlan | None:
        """Returns the plan from the remembered numbers; None unless its way is clearly the cheaper one."""
        if (counts := self._known.get(scope)) is None:
            return None
        plan = self.plan(counts, queries, cached_blocks)
        records, blocks = self._costs(counts, queries, cached_blocks)
        chosen, other = (blocks, records) if plan.way == "blocks" else (records, blocks)
        return plan if other >= _DISTANT * chosen else None

    def plan(self, counts: Counts, queries: int, cached_blocks: int) -> SearchPlan:
        """Returns the cheaper way for this number of queries, with the hints of some of the blocks at hand."""
        records, blocks = self._costs(counts, queries, cached_blocks)
        fits = self._answer_bytes(counts, queries) <= MAX_ANSWER_BYTES
        way: Literal["records", "blocks"] = "blocks" if counts.blocks and fits and blocks < records else "records"
        return SearchPlan(way, counts.candidates, records, blocks if counts.blocks else None)

    def note(self, scope: str, counts: Counts) -> None:
        """Remembers what there is in a scope."""
        self._known[scope] = counts
        self._known.move_to_end(scope)
        while len(self._known) > MAX_SCOPES:
            self._known.popitem(last=False)

    def note_candidates(self, scope: str, candidates: int) -> None:
        """Remembers how many candidates a search by records found."""
        if (known := self._known.get(scope)) is not None:
            self.note(scope, known._replace(candidates=candidates, unsealed=min(known.unsealed, candidates)))

    def _costs(self, counts: Counts, queries: int, cached_blocks: int) -> tuple[int, int]:
        """Returns the bytes by records and by blocks."""
        sizes = self._sizes
        sent = _SENT_COUNTS * queries * sizes.query
        hints = max(counts.blocks - cached_blocks, 0) * (sizes.hints + _IDS_BYTES)
        return counts.candidates * sizes.record, sent + self._answer_bytes(counts, queries) + hints

    def _answer_bytes(self, counts: Counts, queries: int) -> int:
        """Returns the bytes of the answers to a search by blocks."""
        requests = -(-queries // MAX_BLOCK_QUERIES)
        values = _VALUE_BYTES * self._sizes.slabs * (counts.candidates - counts.unsealed) * queries
        return int(values) + requests * counts.unsealed * self._sizes.record


def _shown(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 10_000 else f"{size / 1e3:.1f} KB"
