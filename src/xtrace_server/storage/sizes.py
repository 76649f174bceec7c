"""How many bytes chunks have, so that whatever works on many of them does so in steps of a bounded size."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.functions import FunctionElement

from xtrace_core.wire import TAGS
from xtrace_server.storage.schema import binding, chunk
from xtrace_server.storage.steps import steps

STEP_BYTES: Final = 4 * 2**20
"""How many bytes one step works on, beside the first chunk in it."""

_c = chunk.c


class ByteLength(FunctionElement[int]):
    """The length of a text in UTF-8. Each dialect compiles it to the function that it has for this."""

    inherit_cache = True
    name = "octet_length"

    def __init__(self, text: ColumnElement[Any]) -> None:
        super().__init__(text)


CHUNK_BYTES: Final[ColumnElement[int]] = sum(
    [ByteLength(func.coalesce(_c[tag], "")) for tag in TAGS],
    start=_c.content_bytes + _c.facet_bytes + ByteLength(_c.name),
)
"""The bytes of a chunk but for its ciphertexts, as an expression over its row."""


STORED_BYTES: Final[ColumnElement[int]] = (
    CHUNK_BYTES + func.coalesce(func.length(_c.nonce), 0) + func.coalesce(binding.c.row_bytes, 0)
)
"""All bytes of a chunk, as an expression over its row and that of its binding."""


async def stored_bytes(connection: AsyncConnection, pks: Iterable[int]) -> int:
    """Returns how many bytes the chunks with these keys have together, ciphertexts and nonces with them."""
    found = 0
    for some in steps(pks):
        query = select(func.coalesce(func.sum(STORED_BYTES), 0)).join_from(chunk, binding).where(_c.pk.in_(some))
        found += int((await connection.execute(query)).scalar_one())
    return found


def byte_length(text: str) -> int:
    """Returns the length of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


async def bounded_steps(connection: AsyncConnection, pks: Sequence[int], most: int) -> AsyncIterator[list[int]]:
    """Yields the keys in their order, in steps of at most `most` chunks and about `STEP_BYTES`; unknown ones are left
    out.
    """
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
