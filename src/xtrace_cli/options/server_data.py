"""The server's data folder, for the commands that an operator runs on the server's host."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from xtrace_cli.errors import UnusableArchive, UnusableData
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from xtrace_server.settings import Settings
    from xtrace_server.storage.database import Database
    from xtrace_server.storage.dialects import Dialect

T = TypeVar("T")

DataFolder = Annotated[
    Path, typer.Option("--data", envvar="XTRACE_DATA", help="The folder of the server's database and credentials.")
]
DEFAULT_FOLDER = Path("xtrace-data")


def server_settings(**given: Any) -> "Settings":
    """Returns the server's settings: as given, else from the environment. Raises `InvalidArgument` for wrong values."""
    settings, faults = checked_settings(**given)
    if settings is None:
        raise InvalidArgument(faults[0])
    return settings


def checked_settings(**given: Any) -> "tuple[Settings | None, list[str]]":
    """Returns the same, or a sentence for each wrong value."""
    from pydantic import ValidationError

    from xtrace_server.settings import Settings

    try:
        return Settings(**given), []
    except ValidationError as error:
        return None, [_sentence(one) for one in error.errors(include_input=False, include_url=False)]
    except ValueError as error:
        return None, [str(error)]


def _sentence(error: "ErrorDetails") -> str:
    # If settings contradict each other, the error names none, and the message says which.
    named = "".join(f"XTRACE_{str(name).upper()}" for name in error["loc"][:1]) or "a setting of the server"
    return f"{named} is not valid: {error['msg'].removeprefix('Value error, ')}"


def existing_database(settings: "Settings") -> "Dialect":
    """Returns the server's database, not opened. Raises `UnusableData` if it is missing.

    An operator who mistypes the folder must not get a second, empty database there.
    """
    from xtrace_server.storage.dialects import dialect_of

    database = dialect_of(settings.resolved_database_url)
    if not database.exists():
        where = database.location
        raise UnusableData(
            f"no database was found in {where}: name the folder of `xtrace serve` with --data, or its database with "
            "XTRACE_DATABASE_URL"
        )
    return database


def has_password(url: str) -> bool:
    """Returns whether the URL of a database contains a password."""
    user = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    return ":" in user or "password=" in url


@asynccontextmanager
async def server_database(settings: "Settings") -> "AsyncIterator[Database]":
    """Opens the server's database, created and migrated if needed; a server may be running. Raises `UnusableData`."""
    from xtrace_server.storage.database import open_database

    with database_faults():
        async with open_database(
            settings.resolved_database_url, settings.data, back_up_first=settings.backup_before_migration
        ) as database:
            yield database


def operate(data: Path, act: "Callable[[Database], Awaitable[T]]") -> T:
    """Runs the act on a server's database, and returns its result. Raises `UnusableData` and `InvalidArgument`."""
    import asyncio

    settings = server_settings(data=data)
    existing_database(settings)

    async def run() -> T:
        async with server_database(settings) as database:
            return await act(database)

    return asyncio.run(run())


@contextmanager
def database_faults() -> Iterator[None]:
    """Turns database and file system errors into `UnusableData`, and unknown objects into `InvalidArgument`."""
    from xtrace_server.errors import InvalidRequest, NotFound, ServiceError
    from xtrace_server.storage.database import StorageError, reason
    from xtrace_server.storage.dialects import DatabaseUnusable

    try:
        yield
    except DatabaseUnusable as error:
        raise UnusableData(str(error)) from None
    except (NotFound, InvalidRequest) as error:
        raise InvalidArgument(error.detail) from None
    except ServiceError as error:
        raise UnusableData(error.detail) from None
    except StorageError as error:
        raise UnusableData(f"the database does not respond: {reason(error)}") from None
    except OSError as error:
        raise UnusableData(f"the server's data cannot be used: {error.strerror}: {error.filename}") from None


@contextmanager
def archive_faults(file: Path) -> Iterator[None]:
    """Turns errors of an archive, or of the database, into one sentence."""
    from xtrace_server.archive.container import ArchiveUnusable

    with database_faults():
        try:
            yield
        except ArchiveUnusable as error:
            raise UnusableArchive(f"{file} cannot be used: {error}") from None
        except OSError as error:
            if error.filename != str(file):
                raise
            raise InaccessibleFile(f"{file} cannot be used: {error.strerror}") from None
