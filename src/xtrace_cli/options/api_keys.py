"""Finds API keys by what people call them, and names their permissions."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.connection import known_connection
from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_sdk.errors import InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

_SHOWN: Final = 5
"""The number of characters of a key that the service shows."""


class Level(StrEnum):
    """The permissions of a key in a knowledge base; each includes those before it. `delete` and `all` are the same."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ALL = "all"


PERMISSIONS: Final = {
    Level.NONE: Permission.NONE,
    Level.READ: Permission.READ,
    Level.WRITE: Permission.WRITE,
    Level.DELETE: Permission.DELETE,
    Level.ALL: Permission.DELETE,
}


def configured_key(credentials: Path | None) -> str:
    """Returns the first characters of the API key in use, for `find_key`. Raises `WrongUse` without a key."""
    key = known_connection(credentials).text("api_key")
    if not key:
        raise WrongUse("no API key is in use: name one with --api-key")
    return key[:_SHOWN]


async def find_key(xtrace: "XTraceIntegration", key: str) -> wire.ApiKey:
    """Returns the API key with this hash or these first characters. Raises `InvalidArgument`."""
    keys = await xtrace.list_api_keys()
    named = [one for one in keys if one.hash == key] or [one for one in keys if one.first_n == key]
    # The input is not echoed: it may be a whole key, pasted by mistake.
    if not named:
        raise InvalidArgument(
            "no API key of this organisation has the hash or the first five characters that were given: "
            "see `xtrace keys list`"
        )
    if len(named) > 1:
        raise InvalidArgument(f"{len(named)} API keys begin with {key}: name one by its hash, see `xtrace keys list`")
    return named[0]
