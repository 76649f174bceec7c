"""The sizes of chunks, so that work on many of them is divided into steps of limited size."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.functions import FunctionElement

from xtrace_core.wire import TAGS
from xtrace_server.storage.schema import binding, chunk
from xtrace_server.storage.steps import steps

STEP_BYTES: Final = 4 * 2**20
"""The number of bytes in one step, besides its first chunk."""

_c = chunk.c


class ByteLength(FunctionElement[int]):
    """The length of a text in UTF-8. Each dialect compiles it to its own function."""

    inherit_cache = True
    name = "octet_length"

    def __init__(self, text: ColumnElement[Any]) -> None:
        super().__init__(text)


CHUNK_BYTES: Final[ColumnElement[int]] = sum(
    [ByteLength(func.coalesce(_c[tag], "")) for tag in TAGS],
    start=_c.content_bytes + _c.facet_bytes + ByteLength(_c.name),
)
"""Returns the bytes of a chunk without its ciphertexts, as an expression of its row."""


STORED_BYTES: Final[ColumnElement[int]] = (
    CHUNK_BYTES + func.coalesce(func.length(_c.nonce), 0) + func.coalesce(binding.c.row_bytes, 0)
)
"""Returns all bytes of a chunk, as an expression of its row and its binding's."""


async def stored_bytes(connection: AsyncConnection, pks: Iterable[int]) -> int:
    """Returns the total bytes of the chunks with these keys, including ciphertexts and nonces."""
    found = 0
    for some in steps(pks):
        query = select(func.coalesce(func.sum(STORED_BYTES), 0)).join_from(chunk, binding).where(_c.pk.in_(some))
        found += int((await connection.execute(query)).scalar_one())
    return found


def byte_length(text: str) -> int:
    """Returns the length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


async def bounded_steps(connection: AsyncConnection, pks: Sequence[int], most: int) -> AsyncIterator[list[int]]:
    """Yields the keys in order, in steps of at most `most` chunks and about `STEP_BYTES`, without unknown ones."""
    step: list[int] = []
    taken = 0
    for some in steps(pks):
        rows = await connection.execute(select(_c.pk, CHUNK_BYTES).where(_c.pk.in_(some)))
        sizes = {row[0]: row[1] for row in rows}
        for pk in some:
            size = sizes.get(pk)
            if size is None:
                continue
            if step and (len(step) == most or taken + size > STEP_BYTES):
                yield step
                step, taken = [], 0
            step.append(pk)
            taken += size
    if step:
        yield step
