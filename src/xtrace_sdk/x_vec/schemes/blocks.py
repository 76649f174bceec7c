"""The interface of schemes with blocks: many vectors encrypted together, whose distances the service computes.

Chunks remain the truth. A block is an index derived from them, made and dropped at any time without loss. The service's
half is `xtrace_core.schemes.interface.BlockEvaluation`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Buffer
from xtrace_core.schemes.interface import BlockSizes
from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InvalidAnswer


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block as the service stores it."""

    header: bytes
    hints: bytes
    body: bytes


@dataclass(frozen=True, slots=True, repr=False)
class CheckedBlock(Secretive):
    """A block's header and hints, which authenticated: only `BlockScheme.checked` creates one."""

    header: bytes
    hints: bytes
    count: int
    """The vectors in the block: its slots from 0 on."""
    secret: bytes
    """What its scheme reads its values with."""

    @property
    def size(self) -> int:
        """The bytes that keeping it takes."""
        return len(self.header) + len(self.hints) + len(self.secret)


@dataclass(frozen=True, slots=True)
class BlockAnswer:
    """What the service answered for one block."""

    block: CheckedBlock
    slots: NDArray[np.int64]
    """The slots that were answered, ascending, `(n,)`."""
    values: Buffer
    """Their values as they were sent, for each query and slab."""

    def check_slots(self) -> None:
        """Raises `InvalidAnswer` for slots that the block does not have."""
        count = self.block.count
        if len(self.slots) and self.slots[-1] >= count:
            raise InvalidAnswer(f"the server answered for slots that a block of {count} vectors does not have")


class BlockQueries(Protocol):
    """The queries of one search, with the secrets that read one answer to them."""

    @property
    def sent(self) -> list[bytes]:
        """What is sent to the service for each query."""

    def __len__(self) -> int: ...

    def read(self, answers: Sequence[BlockAnswer]) -> NDArray[np.uint16]:
        """Returns the distances of the slots of all answers, one answer after another, `(queries, slots)`.

        Works once: the secrets serve one answer. Takes the whole answer of a search, because nothing may depend on a
        part of it. Raises `InvalidAnswer` for values that no honest service computes, `RuntimeError` when called again.
        """
        ...

    def read_each(self, answers: Sequence[BlockAnswer]) -> list[NDArray[np.uint16] | None]:
        """Like `read`, but returns None for each answer with values that no honest service computes."""
        ...


class BlockScheme(Protocol):
    """What a client does with blocks."""

    max_rows: int
    """The most vectors in a block."""
    sizes: BlockSizes
    record_bytes: int
    """What a search receives for a vector in no block: its record and nonce."""

    def seal(self, vectors: Any, kb_id: str) -> SealedBlock:
        """Encrypts 1 to `max_rows` vectors as one block of a knowledge base. Vector i is in slot i.

        Raises `InvalidVector`, and `FaultDetected` if the block does not show the right distances.
        """
        ...

    def checked(self, header: bytes, hints: bytes, kb_id: str) -> CheckedBlock:
        """Raises `InvalidAnswer` unless this context sealed a block with these parts for this knowledge base."""
        ...

    def matches(self, block: CheckedBlock, vectors: Any) -> bool:
        """Returns whether the block was made of these vectors, in this order: recomputes its body.

        Raises `InvalidVector`.
        """
        ...

    def queries(self, vectors: Any) -> BlockQueries:
        """Encrypts the queries of one request, at least one vector. Every request needs its own, also a repeated one.

        Raises `InvalidVector`.
        """
        ...
