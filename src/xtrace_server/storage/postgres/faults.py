"""PostgreSQL's errors: as answers of the service, and without the values that they quote."""

from typing import Any, Final

import psycopg
from psycopg import errors
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError

from xtrace_server.errors import ServiceError, StorageFull, StorageReadOnly, Unavailable

_BUSY: Final = (
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.SerializationFailure,
    errors.DeadlockDetected,
    errors.IdleInTransactionSessionTimeout,
    errors.TooManyConnections,
)
_REPEATABLE: Final = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)


def fault(error: DBAPIError) -> ServiceError | None:
    """Returns the answer to a request that met this error; None for a bug or for damaged data."""
    match error.orig:
        case errors.DiskFull():
            return StorageFull()
        case errors.ReadOnlySqlTransaction():
            return StorageReadOnly()
        case _ if isinstance(error.orig, _BUSY):
            return Unavailable("the database is busy: try again")
        case psycopg.OperationalError() | psycopg.InterfaceError():
            return Unavailable("the database cannot be reached: try again")
    return None


def may_be_repeated(error: DBAPIError) -> bool:
    """Returns whether another transaction was in the way: the same one, retried, finds it done.

    A value that had to be unique is among these: the transaction that had it first was not over when this one looked.
    """
    return isinstance(error.orig, _REPEATABLE)


def hide_values(context: ExceptionContext) -> None:
    """Takes the details out of an error: they quote the values of rows, and errors end up in logs and on screens."""
    without_values(context.original_exception)
    if isinstance(context.sqlalchemy_exception, DBAPIError):
        context.sqlalchemy_exception.args = (str(context.original_exception),)


def without_values(error: Any) -> None:
    """The same for an error of the driver."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        error.args = (error.diag.message_primary,)
