"""Compares a local index with all that the service has, instead of with what it says has changed."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from xtrace_core.wire import MAX_CHANGES
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import unpack
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.local.index_file import IndexFile
from xtrace_sdk.x_vec.local.loaded import Loaded
from xtrace_sdk.x_vec.local.segment import code_of
from xtrace_sdk.x_vec.local.synchronising import KeptContent

_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class LocalIndexReport:
    """What a comparison of a local index with the service found."""

    chunks: int
    """How many chunks the index has."""
    contents: int
    """How many kept contents were compared with their codes."""
    missing: tuple[int, ...] = ()
    """Chunks that the service has and the index lacks: the service did not tell of them."""
    surplus: tuple[int, ...] = ()
    """Chunks that the index has and the service lacks: the service did not tell that they are gone."""
    wrong: tuple[int, ...] = ()
    """Chunks whose kept content does not have the code of the index."""

    @property
    def is_good(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.surplus or self.wrong)


class Stored(NamedTuple):
    """What the service has."""

    chunk_ids: set[int]
    revisions: set[int]
    """The revisions of the knowledge base that its answers named: one unless it changed meanwhile."""


async def stored_chunks(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str) -> Stored:
    """Asks for all chunks under the context and its predecessors."""
    found, revisions = set[int](), set[int]()
    for one in context.lineage:
        after, has_more = 0, True
        while has_more:
            page = await xtrace.local_changes(kb_id, one.id, 0, after, MAX_CHANGES)
            counts = one.accepted.ids(kb_id, page.chunk_ids).tolist()
            found.update(chunk_id for chunk_id, does in zip(page.chunk_ids, counts, strict=True) if does)
            revisions.add(page.revision)
            after, has_more = page.chunk_ids[-1] if page.chunk_ids else after, page.has_more
    return Stored(found, revisions)


def compared(loaded: Loaded, stored: set[int], file: IndexFile) -> LocalIndexReport:
    """Compares the index with the chunks that are stored. Raises `Damaged`."""
    indexed = loaded.chunk_ids
    known: NDArray[np.int64] = np.array(sorted(stored), np.int64)
    contents, wrong = 0, list[int]()
    for segment, alive in loaded.parts:
        rows = np.flatnonzero(alive & (segment.codes.factors > 0))
        for start in range(0, len(rows), _AT_ONCE):
            places = {int(segment.chunk_ids[row]): row for row in rows[start : start + _AT_ONCE].tolist()}
            kept = file.contents(list(places))
            contents += len(kept)
            for chunk_id, packed in kept.items():
                code = code_of(unpack(msgspec.msgpack.decode(packed, type=KeptContent).envelope))
                if code is None or (code.levels[0] != segment.codes.levels[places[chunk_id]]).any():
                    wrong.append(chunk_id)
    return LocalIndexReport(
        len(indexed),
        contents,
        tuple(np.setdiff1d(known, indexed).tolist()),
        tuple(np.setdiff1d(indexed, known).tolist()),
        tuple(sorted(wrong)),
    )
