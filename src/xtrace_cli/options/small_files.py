"""Reads small settings files. Others may have written them, so large files are rejected."""

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, Final

from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

PREFIX: Final = "XTRACE_"
_MAX_BYTES: Final = 1 << 20


def read_small_file(path: Path, content: str) -> bytes:
    """Returns the bytes of a regular file of at most 1 MiB; `content` names its expected content in messages.

    Raises `InaccessibleFile`.
    """
    try:
        with path.open("rb") as file:
            # A pipe or a device may have no end.
            data = file.read(_MAX_BYTES + 1) if stat.S_ISREG(path.stat().st_mode) else None
    except OSError as error:
        raise InaccessibleFile(f"the {content} cannot be read from {path}: {error.strerror}") from None
    if data is None or len(data) > _MAX_BYTES:
        raise InaccessibleFile(f"the {content} cannot be read from {path}: expected a regular file of at most 1 MiB")
    return data


def read_dotenv(path: Path) -> dict[str, str]:
    """Returns the variables of a `.env` whose names begin with `XTRACE_`; empty if the file does not exist.

    `${…}` in a value is not expanded: that would let the file copy other environment variables, including secrets,
    anywhere. Raises `InaccessibleFile` and `InvalidArgument`.
    """
    return {name: value for name, value in _variables(path) if value}


def dotenv_names(path: Path) -> list[str]:
    """Returns the names of these variables, including those without a value; raises what `read_dotenv` raises."""
    return [name for name, _ in _variables(path)]


def _variables(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    from dotenv.parser import parse_stream

    for binding in parse_stream(StringIO(utf8(read_small_file(path, "settings"), path))):
        if binding.error and PREFIX in binding.original.string:
            raise InvalidArgument(f"{path} is not valid at line {binding.original.line}: expected NAME=VALUE")
        if binding.key is not None and binding.key.startswith(PREFIX):
            yield binding.key, binding.value or ""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Returns the profiles of an `xtrace.toml`, each with its settings."""

    path: Path
    profiles: Mapping[str, Mapping[str, str]]


def read_profiles(path: Path, known: frozenset[str]) -> Profiles:
    """Returns the tables `[profiles.NAME]` of the file, ignoring others; empty if the file does not exist.

    Raises `InaccessibleFile`, and `InvalidArgument` for a setting that is not `known` or not a text.
    """
    if not path.is_file():
        return Profiles(path, {})
    import tomllib

    try:
        tables = tomllib.loads(utf8(read_small_file(path, "profiles"), path)).get("profiles", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        where = f": {error}" if isinstance(error, tomllib.TOMLDecodeError) else ""
        raise InvalidArgument(f"{path} is not valid TOML{where}") from None
    if not isinstance(tables, dict):
        raise InvalidArgument(f"{path} has profiles that are not tables, expected [profiles.NAME]")
    return Profiles(path, {name: dict(_settings(path, name, table, known)) for name, table in tables.items()})


def nearest(name: str, known: Iterator[str] | frozenset[str] | list[str]) -> str:
    """Returns a question with similar names, or an empty text."""
    found = get_close_matches(name, list(known), 3)
    return f": did you mean {' or '.join(found)}?" if found else ""


def _settings(path: Path, profile: str, table: Any, known: frozenset[str]) -> Iterator[tuple[str, str]]:
    if not isinstance(table, dict):
        raise InvalidArgument(f"{path} has a profile {profile} that is not a table, expected [profiles.{profile}]")
    for name, value in table.items():
        if name not in known:
            raise InvalidArgument(
                f"{path} has an unknown setting {name} in the profile {profile}{nearest(name, known)}"
            )
        if not isinstance(value, str):
            raise InvalidArgument(f"{path} has a value of {name} in the profile {profile} that is not a string")
        if value:
            yield name, value


def utf8(data: bytes, path: Path) -> str:
    """Decodes the file. Raises `InvalidArgument`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:  # its attributes hold the content
        raise InvalidArgument(f"{path} is not valid UTF-8") from None
