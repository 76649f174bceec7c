"""Queries the service about a context whose chunks may still be under its predecessor."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from xtrace_sdk.errors import ContextNotFound
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

T = TypeVar("T")


async def of_each(
    context: ExecutionContext, ask: Callable[[ExecutionContext], Awaitable[T]]
) -> list[tuple[ExecutionContext, T]]:
    """Returns the results of `ask` for the predecessor and then for the context, without one that the service lacks.

    They are queried one after the other, in this order: a rotation moves chunks from the first to the second, so a
    chunk that moves meanwhile may be seen twice, but is never missed. Raises `ContextNotFound` if the service has
    neither, and what `ask` raises.
    """
    answers: list[tuple[ExecutionContext, T]] = []
    for number, one in enumerate(context.lineage, start=1):
        try:
            answers.append((one, await ask(one)))
        except ContextNotFound:
            if number == len(context.lineage) and not answers:
                raise
    return answers
