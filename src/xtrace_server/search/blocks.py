"""Searches of blocks: the values of the candidates in blocks, and the records of those in none, as of one snapshot.

Where the candidates are is read in one transaction, so that each is found in exactly one place. The bodies never
change, and are held before the answer begins: a block that is replaced meanwhile does not matter any longer.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from xtrace_core import block_frames
from xtrace_core.lattice.layout import pack_values
from xtrace_core.schemes.interface import BlockEvaluation, Evaluation
from xtrace_server.errors import BlockDamaged, Unavailable
from xtrace_server.limits.filters import filtering
from xtrace_server.metrics import Metrics
from xtrace_server.search.bodies import (
    BlockComputation,
    Body,
    BodyGone,
    BodyHolder,
    HeldBodies,
    LoadBodies,
    Values,
)
from xtrace_server.search.engine import SearchEngine, SearchTarget
from xtrace_server.search.interface import AnswerForm
from xtrace_server.search.running import Search
from xtrace_server.settings import Settings
from xtrace_server.storage import blocks, chunks
from xtrace_server.storage.blocks import Chosen
from xtrace_server.storage.candidates import Candidates
from xtrace_server.storage.chunks import Reserve
from xtrace_server.storage.database import Connection, Database

_log = logging.getLogger("xtrace")

_ATTEMPTS: Final = 3
"""The number of times that a search begins again because a block was replaced just then."""
_NO_QUERY: Final = ((),)
"""What a search for the records is given: clients compare them."""


class BlockTarget(NamedTuple):
    """The target of a search of blocks; without candidates for a context under which nothing can be stored yet."""

    evaluation: Evaluation
    blocks: BlockEvaluation
    candidates: Candidates | None
    revision: int


FindBlockTarget: TypeAlias = Callable[[Connection], Awaitable[BlockTarget]]
"""Looks up the target in the search's own transaction."""


class BlockSearch:
    """A search with known candidates; `stream` can be read once."""

    def __init__(
        self, computation: BlockComputation, chosen: Sequence[Chosen], held: HeldBodies, unsealed: Search, revision: int
    ) -> None:
        self._computation = computation
        self._chosen = chosen
        self._held = held
        self._unsealed = unsealed
        self._revision = revision

    @property
    def answer_bytes(self) -> int:
        """The approximate number of bytes of the whole answer."""
        slabs, queries = self._computation.evaluation.sizes.slabs, len(self._computation.queries)
        values = block_frames.value_bytes(self._sealed) * slabs * queries
        return values + self._unsealed.answer_bytes

    @property
    def record_shape(self) -> tuple[int, int]:
        """The number of ciphertexts of a candidate in no block, and the size of each."""
        return self._unsealed.answer_shape

    async def stream(self, form: AnswerForm) -> AsyncGenerator[bytes, None]:
        """Yields the answer; `form` is that of the records. Closing it stops the scan."""
        slabs, queries = self._computation.evaluation.sizes.slabs, len(self._computation.queries)
        candidates = self._sealed + self._unsealed.count
        yield block_frames.head(slabs, queries, len(self._chosen), candidates, self._revision)
        async with aclosing(self._held.scan(self._computation, self._written)) as parts:
            async for part in parts:
                yield part
        yield block_frames.end() + form.head(self._unsealed.count)
        async with aclosing(self._unsealed.blocks(form)) as records:
            async for part in records:
                yield part
        yield form.end()

    @property
    def _sealed(self) -> int:
        return sum([len(one.slots) for one in self._chosen])

    def _written(self, first: int, values: Values) -> bytes:
        some = self._chosen[first : first + len(values)]
        return b"".join([_block(one, of_one) for one, of_one in zip(some, values, strict=True)])


def _block(chosen: Chosen, values: Values) -> bytes:
    """Returns one block of the answer; `values` are `(queries, slabs, rows)`."""
    wanted = values if len(chosen.slots) == values.shape[-1] else values[:, :, chosen.slots]
    return block_frames.block(chosen.pk, chosen.slots, pack_values(wanted))


class BlockSearches:
    """Prepares searches of blocks; the engine prepares their second half."""

    def __init__(
        self, engine: SearchEngine, holder: BodyHolder, database: Database, settings: Settings, metrics: Metrics
    ) -> None:
        self._engine = engine
        self._holder = holder
        self._database = database
        self._settings = settings
        self._metrics = metrics

    @property
    def held_bytes(self) -> int:
        """The bytes of the bodies in files."""
        return self._holder.held_bytes

    async def search(
        self, organisation_id: str, find: FindBlockTarget, queries: Sequence[bytes], reserve: Reserve
    ) -> BlockSearch:
        """Returns a search of the organisation over the target that `find` looks up.

        Raises what `find` and `reserve` raise, `InvalidCiphertext`, `BlockDamaged`, and `Unavailable` if blocks are
        replaced all the time.
        """
        for _ in range(_ATTEMPTS):
            preparation = _Preparation(find, queries, self._settings, reserve)
            unsealed = await self._engine.search(organisation_id, preparation.find, _NO_QUERY, reserve, filtered=True)
            bodies = [Body(one.pk, one.sha256) for one in preparation.chosen]
            try:
                held = await self._holder.hold(bodies, self._load(organisation_id, preparation.kb_id))
            except BodyGone:
                continue
            self._metrics.blocks_scanned.inc(len(bodies))
            target = preparation.target
            computation = BlockComputation(target.blocks, queries)
            return BlockSearch(computation, preparation.chosen, held, unsealed, target.revision)
        raise Unavailable("blocks were replaced each time the search began: try again")

    async def tidy(self) -> None:
        """Forgets the bodies of blocks that are gone; another server may have removed them."""

        async def alive(hashes: Collection[bytes]) -> set[bytes]:
            async with self._database.look_up() as connection:
                return await blocks.existing_bodies(connection, hashes)

        await self._holder.tidy(alive)

    async def close(self) -> None:
        await self._holder.close()

    def _load(self, organisation_id: str, kb_id: str) -> LoadBodies:
        async def load(bodies: Collection[Body]) -> Mapping[bytes, bytes]:
            self._metrics.block_bodies_loaded.inc(len(bodies))
            async with self._database.read(organisation_id, single=True) as connection:
                stored = await blocks.read_bodies(connection, [body.pk for body in bodies])
            damaged = await asyncio.to_thread(_damaged, bodies, stored)
            if damaged is not None:
                error = BlockDamaged(kb_id, damaged.pk)
                _log.error("%s", error)
                raise error
            return {body.sha256: stored[body.pk] for body in bodies if body.pk in stored}

        return load


def _damaged(bodies: Collection[Body], stored: Mapping[int, bytes]) -> Body | None:
    """Returns the first of the stored bodies that is not what its hash says."""
    found = [body for body in bodies if body.pk in stored]
    return next((body for body in found if hashlib.sha256(stored[body.pk]).digest() != body.sha256), None)


@dataclass
class _Preparation:
    """Reads where the candidates are in the transaction in which the engine looks up the others."""

    lookup: FindBlockTarget
    queries: Sequence[bytes]
    settings: Settings
    reserve: Reserve

    def __post_init__(self) -> None:
        self.chosen: list[Chosen] = []
        self.kb_id = ""

    async def find(self, connection: Connection) -> SearchTarget:
        self.target = target = await self.lookup(connection)
        for query in self.queries:
            target.blocks.check_query(query)
        if target.candidates is None:
            return SearchTarget(target.evaluation, None)
        self.kb_id = target.candidates.kb.id
        async with filtering(self.settings, target.candidates):
            self.chosen = await blocks.choose(connection, target.candidates, self.reserve)
            few = target.candidates.scope.selects and await chunks.few_unsealed(connection, target.candidates.binding)
        scope = replace(target.candidates.scope, unsealed=True, few=few)
        return SearchTarget(target.evaluation, replace(target.candidates, scope=scope))
