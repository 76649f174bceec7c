"""The interface between searches of blocks and what computes with the blocks' bodies.

Bodies are large and never change, so each is named by its hash: `LocalBodies` maps files of that name, and processes
elsewhere can hold them by it. A computation depends on nothing else.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from xtrace_core.schemes.interface import BlockEvaluation

_T = TypeVar("_T")
Values: TypeAlias = NDArray[np.uint16]
"""The values of some blocks, as `BlockEvaluation.evaluate` returns them."""


class BodyGone(Exception):
    """The body of a block is not stored any longer, because the block was replaced or removed."""


class Body(NamedTuple):
    """The body of a block: the block's key, and the body's SHA-256."""

    pk: int
    sha256: bytes


LoadBodies: TypeAlias = Callable[[Collection[Body]], Awaitable[Mapping[bytes, bytes]]]
"""Reads some bodies from the database, and returns them by their hashes, which are theirs; those that are gone are
missing. Raises `BlockDamaged`."""
Alive: TypeAlias = Callable[[Collection[bytes]], Awaitable[set[bytes]]]
"""Returns those of the hashes that still name the body of a block."""
FinishBodies: TypeAlias = Callable[[int, Values], _T]
"""Processes the values of consecutive bodies, of which the first has this position; runs in any thread."""


@dataclass(frozen=True, slots=True)
class BlockComputation:
    """What a search computes with every body. Depends only on its fields, so it can run anywhere."""

    evaluation: BlockEvaluation
    queries: Sequence[bytes]
    """Checked queries."""


class HeldBodies(Protocol):
    """Bodies that can be computed with until this object is gone, whatever happens to their blocks."""

    def scan(self, computation: BlockComputation, finish: FinishBodies[_T]) -> AsyncGenerator[_T, None]:
        """Yields the results of `finish` for consecutive bodies, in order; runs outside the event loop.

        Closing the generator stops the scan. Raises `Unavailable` if bodies that are held elsewhere cannot be reached.
        """
        ...


class BodyHolder(Protocol):
    """Holds bodies close to the processors that compute with them, and computes."""

    @property
    def held_bytes(self) -> int:
        """The bytes of the bodies that it holds."""
        ...

    async def hold(self, bodies: Sequence[Body], load: LoadBodies) -> HeldBodies:
        """Returns the bodies, of which it loads those that it does not hold yet.

        Raises `BodyGone` if one cannot be loaded any longer, `BlockDamaged`, `StorageFull` and `StorageReadOnly`.
        """
        ...

    async def tidy(self, alive: Alive) -> None:
        """Removes bodies of blocks that are gone."""
        ...

    async def close(self) -> None:
        """Stops every scan."""
        ...
