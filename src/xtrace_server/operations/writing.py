"""Writing transactions of callers, whose keys must still be valid.

A transaction can conflict with another one, of this server or of another server on the same database. A `repeatable`
operation is then retried.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from xtrace_server.auth.guard import Actor, ApiCaller, Operator
from xtrace_server.errors import StorageFull
from xtrace_server.state import ServerState
from xtrace_server.storage.database import Connection, Database, StorageError

_P = ParamSpec("_P")
_T = TypeVar("_T")


_PAUSES_S: Final = (0.01, 0.05, 0.2, 0.8)
"""The maximum wait before each retry of an operation."""


def repeatable(
    operation: Callable[Concatenate[ServerState, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[ServerState, _P], Coroutine[Any, Any, _T]]:
    """Marks an operation that has no effect unless its transaction commits, so that it can be retried."""

    @wraps(operation)
    async def repeated(state: ServerState, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        for pause_s in _PAUSES_S:
            try:
                return await operation(state, *args, **kwargs)
            except StorageError as error:
                if not state.database.may_be_repeated(error):
                    raise
            await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - so that two do not meet again
        return await operation(state, *args, **kwargs)

    return repeated


@asynccontextmanager
async def writing(state: ServerState, caller: ApiCaller | Actor) -> AsyncIterator[Connection]:
    """A writing transaction in which the caller's key is valid; later revocations wait for its end.

    A body may arrive long after its headers. Transactions with an admin key are short, and go first. Raises
    `Unauthenticated` if the key was revoked meanwhile.
    """
    async with state.database.write(caller.organisation_id, urgent=isinstance(caller, Actor)) as connection:
        await caller.check_current(connection)
        yield connection


@asynccontextmanager
async def operating(database: Database, operator: Operator) -> AsyncIterator[Connection]:
    """A writing transaction in which the operator's key, if any, is valid; the operator's transactions go first.

    Across all servers, only one runs at a time. Raises `Unauthenticated` if the key was replaced meanwhile.
    """
    async with database.write(urgent=True, alone=True) as connection:
        await operator.check_current(connection)
        yield connection


def frees_space(
    act: Callable[Concatenate[ServerState, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[ServerState, _P], Coroutine[Any, Any, _T]]:
    """Makes deletions work on a full disk: the act is retried after the ballast file has been removed."""

    @wraps(act)
    async def with_ballast(state: ServerState, /, *arguments: _P.args, **more: _P.kwargs) -> _T:
        return await freeing_space(state, lambda: act(state, *arguments, **more))

    return with_ballast


async def freeing_space(state: ServerState, act: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Does the same for a single call."""
    try:
        return await act()
    except StorageError as error:
        full = isinstance(state.database.fault(error), StorageFull)
        if not full or not await asyncio.to_thread(state.ballast.give_up):
            raise
    return await act()
