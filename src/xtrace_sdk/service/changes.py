"""The call that keeps a local copy of chunks up to date."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Final

from xtrace_core import wire
from xtrace_sdk.arguments import AtLeast, AtMost, Count, checked_calls
from xtrace_sdk.errors import InvalidAnswer
from xtrace_sdk.limits import MAX_COUNT_BYTES
from xtrace_sdk.service.private_fields import PrivacyChecked

_ID_BYTES: Final = len(str(wire.MAX_CHUNK_ID)) + 2
"""An id in an answer, with a comma and a space."""
_MANY_RANGES: Final = 10_000
"""More ranges are checked in a thread."""


@dataclass(frozen=True, slots=True)
class ChunkChanges:
    """Which chunks under a context were written after a revision of the knowledge base."""

    revision: int
    """The revision that the knowledge base has now."""
    chunk_ids: list[int]
    """The ids of the chunks, ascending."""
    has_more: bool
    """Whether more were written, with ids above the last one here."""
    living: list[tuple[int, int]] | None
    """If a chunk is gone since, and `gone` is None: all chunks under the context as ascending ranges of ids, both ends
    included."""
    gone: list[int] | None = None
    """If a chunk is gone since: the ids of the chunks of the knowledge base that are, ascending."""


@checked_calls
class LocalChanges(PrivacyChecked):
    """The call of `XTraceIntegration` for local copies. It may raise `ServerError` and `NetworkError`."""

    async def local_changes(
        self,
        kb_id: str,
        context_id: str,
        since: Count,
        after: Count = 0,
        limit: Annotated[int, AtLeast(1), AtMost(wire.MAX_CHANGES)] = wire.MAX_CHANGES,
    ) -> ChunkChanges:
        """Returns which chunks under the context were written after the revision `since`, or are gone since then.

        Args:
            kb_id: the knowledge base.
            context_id: the execution context of the chunks; under one that is not stored there are none.
            since: the revision that your copy of the chunks has; 0 for an empty copy.
            after: returns only ids above this one. To continue where `has_more` is true, pass the last id.
            limit: the maximum number of ids.

        Once every page is applied, the copy has the `revision` of the *first* page: chunks may have been written
        between two pages. A `revision` below `since` means that the server restored an older state: discard the copy.
        """
        body = self._body(wire.FindChanges(kb_id, context_id, since, after, limit))
        # Only the number of chunks bounds the ranges, which are in answers to those who have a copy alone.
        largest = None if since else limit * _ID_BYTES + MAX_COUNT_BYTES
        answer = await self._service.data("POST", "local/changes", wire.ChunkChanges, body=body, max_bytes=largest)
        if answer.living is not None and len(answer.living) > _MANY_RANGES:
            await asyncio.to_thread(_check_ranges, answer.living)
        else:
            _check_ranges(answer.living or ())
        _check_ids(answer, after, limit)
        tells_gone = answer.living is not None or answer.gone is not None
        if (tells_gone and (answer.has_more or not since)) or (
            answer.revision <= since and (answer.chunk_ids or answer.has_more or tells_gone)
        ):
            raise InvalidAnswer("the server returned changes for a copy that cannot have any, or ranges out of place")
        return ChunkChanges(answer.revision, answer.chunk_ids, answer.has_more, answer.living, answer.gone)


def _check_ids(answer: wire.ChunkChanges, after: int, limit: int) -> None:
    ids = answer.chunk_ids
    if any(first >= second for first, second in pairwise([after, *ids])):
        raise InvalidAnswer(
            "the server returned ids of changed chunks that were not requested, or not in ascending order"
        )
    gone = answer.gone or ()
    if any(first >= second for first, second in pairwise([0, *gone])) or not set(gone).isdisjoint(ids):
        raise InvalidAnswer("the server returned ids of deleted chunks that are not ascending, or of chunks that exist")
    if answer.living is not None and answer.gone is not None:
        raise InvalidAnswer("the server returned both what is gone and what is left")
    if len(ids) > limit or (answer.has_more and len(ids) < limit):
        raise InvalidAnswer(
            f"the server returned {len(ids)} ids of changed chunks on a page of {limit}"
            f"{' that is not the last one' if answer.has_more else ''}"
        )


def _check_ranges(ranges: Sequence[tuple[int, int]]) -> None:
    before = 0
    for first, last in ranges:
        if not before < first <= last:
            raise InvalidAnswer("the server returned ranges of chunk ids that are not ascending, or overlap")
        before = last
