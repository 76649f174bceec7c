"""How the commands reach the service: the address, the organisation and the keys.

For each of them: the environment variable (`XTRACE_API_URL`, `XTRACE_ORG_ID`, `XTRACE_API_KEY`, `XTRACE_ADMIN_KEY`),
else the credentials file, else, for the address alone, the hosted service. The credentials file is what
`--credentials` names, else what `XTRACE_CREDENTIALS` names, else `xtrace-data/credentials.json` if it is there. No key
is ever an argument, because every user of a machine can read the arguments of every process.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import typer

from xtrace_cli.errors import WrongUse
from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

T = TypeVar("T")

DEFAULT_FILE = Path("xtrace-data", "credentials.json")
_ATTEMPTS = 3
"""A person waits for the answer, so a server that is away is reported within about a second."""

CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        envvar="XTRACE_CREDENTIALS",
        help=f"The file with the service's address and the keys; by default {DEFAULT_FILE}, if it is there.",
    ),
]


class _Connection(Secretive, msgspec.Struct):
    """What is known about the service; empty is unknown. A file may lack what its owner does not have."""

    api_url: str = ""
    org_id: str = ""
    api_key: str = ""
    admin_key: str = ""

    def __repr__(self) -> str:
        return f"<_Connection to {self.api_url}>"


def with_admin_key(file: Path | None, call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    """What the call gives that is made with the admin key.

    Raises `WrongUse` if the key or the organisation is unknown, what reading the file raises, and what the call raises.
    """
    return _run(file, ("org_id", "admin_key"), call)


def with_api_key(file: Path | None, call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    """What the call gives that is made with the API key; raises as `with_admin_key` does."""
    return _run(file, ("org_id", "api_key"), call)


def with_two_api_keys(
    file: Path | None, other_file: Path | None, call: "Callable[[XTraceIntegration, XTraceIntegration], Awaitable[T]]"
) -> T:
    """The same for a call between two services; without a file for the other one, they are the same.

    Environment variables say nothing about the other one.
    """

    known = None if other_file is None else _read(other_file)
    for name in ("api_url", "org_id", "api_key"):
        if known is not None and not getattr(known, name):
            raise WrongUse(f"{other_file} lacks {_NAMES[name]} ({name}): complete the file that --to names")

    async def run(xtrace: "XTraceIntegration") -> T:
        if known is None:
            return await call(xtrace, xtrace)
        async with _integration(known, ()) as other:
            return await call(xtrace, other)

    return with_api_key(file, run)


def _run(file: Path | None, needs: tuple[str, ...], call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    async def run() -> T:
        async with _integration(_connection(file), needs) as xtrace:
            return await call(xtrace)

    return asyncio.run(run())


def _integration(known: _Connection, needs: tuple[str, ...]) -> "XTraceIntegration":
    from xtrace_sdk.service.integration import Retries, XTraceIntegration

    for name in needs:
        if not getattr(known, name):
            raise WrongUse(
                f"this needs {_NAMES[name]}: set {_variable(name)}, or name a credentials file with --credentials"
            )
    return XTraceIntegration(
        org_id=known.org_id,
        api_key=known.api_key,
        api_url=known.api_url,
        admin_key=known.admin_key,
        retries=Retries(attempts=_ATTEMPTS),
    )


_NAMES = {
    "org_id": "the organisation's id",
    "api_key": "an API key",
    "admin_key": "the organisation's admin key",
    "api_url": "the service's address",
}


def _connection(file: Path | None) -> _Connection:
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    known = _Connection() if file is None else _read(file)
    for name in known.__struct_fields__:
        setattr(known, name, os.environ.get(_variable(name)) or getattr(known, name))
    return known


def _variable(name: str) -> str:
    return f"XTRACE_{name.upper()}"


def _read(file: Path) -> _Connection:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Connection)
    except OSError as error:
        raise InaccessibleFile(f"the credentials cannot be read from {file}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidArgument(
            f"{file} does not contain credentials: expected a JSON object with the texts api_url, org_id, api_key, "
            "admin_key"
        ) from None
