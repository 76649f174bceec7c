"""Turns PostgreSQL's errors into answers of the service, without the values that they quote."""

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
    """Returns the answer to a request that failed with this error; None for a bug or damaged data."""
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
    """Returns whether another transaction caused the error; a retry then finds that one finished.

    This includes unique values: the transaction that first used the value had not finished when this one checked.
    """
    return isinstance(error.orig, _REPEATABLE)


def hide_values(context: ExceptionContext) -> None:
    """Removes the details from an error: they quote values of rows, and errors end up in logs and on screens."""
    without_values(context.original_exception)
    if isinstance(context.sqlalchemy_exception, DBAPIError):
        context.sqlalchemy_exception.args = (str(context.original_exception),)


def without_values(error: Any) -> None:
    """Does the same for an error of the driver."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        error.args = (error.diag.message_primary,)
