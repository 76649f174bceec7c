"""Decides how the vectors of a scheme with blocks are compared: by the fewest bytes, of which a sent one counts twice.

By *records*, the service sends the record of every candidate. By *blocks*, the client sends its encrypted query. The
service then sends 1.5 bytes for each candidate in a block and slab, and the records of the others. Neither the numbers
nor the choice depend on the query.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from xtrace_core.wire import MAX_BLOCK_QUERIES
from xtrace_sdk.limits import MAX_ANSWER_BYTES

MAX_SCOPES: Final = 256
"""The number of scopes whose numbers are remembered."""
_SENT_COUNTS: Final = 2
MAX_USES: Final = 8
"""The number of searches that use the same numbers if both ways cost about the same."""
_DISTANT: Final = 2
"""How many times cheaper a way must be for the numbers to be used without a limit."""
_CHANGED: Final = 8
"""Numbers are outdated once the candidates change by more than this part of them, an eighth."""
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


@dataclass(slots=True)
class _Known:
    """The numbers of a scope, and how many searches near the crossing used them."""

    counts: Counts
    uses: int = 0


class Planner:
    """Chooses the way of each search under one context. Remembers what there is in the latest scopes."""

    def __init__(self, sizes: Sizes) -> None:
        self._sizes = sizes
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def remembered(self, scope: str, queries: int, cached_blocks: int) -> SearchPlan | None:
        """Returns the plan from the remembered numbers; None if the service should be asked.

        Where both ways cost about the same, the numbers are used a few times: the wrong way costs little then.
        """
        if (known := self._known.get(scope)) is None:
            return None
        plan = self.plan(known.counts, queries, cached_blocks)
        records, blocks = self._costs(known.counts, queries, cached_blocks)
        chosen, other = (blocks, records) if plan.way == "blocks" else (records, blocks)
        if other >= _DISTANT * chosen:
            return plan
        known.uses += 1
        return plan if known.uses <= MAX_USES else None

    def plan(self, counts: Counts, queries: int, cached_blocks: int) -> SearchPlan:
        """Returns the cheaper way for this number of queries, with the hints of some of the blocks at hand."""
        records, blocks = self._costs(counts, queries, cached_blocks)
        fits = self._answer_bytes(counts, queries) <= MAX_ANSWER_BYTES
        way: Literal["records", "blocks"] = "blocks" if counts.blocks and fits and blocks < records else "records"
        return SearchPlan(way, counts.candidates, records, blocks if counts.blocks else None)

    def note(self, scope: str, counts: Counts) -> None:
        """Remembers what there is in a scope, which the service just told."""
        self._remember(scope, _Known(counts))

    def _remember(self, scope: str, known: "_Known") -> None:
        self._known[scope] = known
        self._known.move_to_end(scope)
        while len(self._known) > MAX_SCOPES:
            self._known.popitem(last=False)

    def note_candidates(self, scope: str, candidates: int) -> None:
        """Remembers how many candidates a search by records found."""
        if (known := self._known.get(scope)) is None:
            return
        before = known.counts
        counts = before._replace(candidates=candidates, unsealed=min(before.unsealed, candidates))
        is_outdated = _CHANGED * abs(candidates - before.candidates) > before.candidates
        self._remember(scope, _Known(counts, MAX_USES if is_outdated else known.uses))

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
