"""How commands reach the service: the address, the organisation and the keys.

Each of them comes from the first source that has it: the environment; the credentials file that `--credentials` or
`XTRACE_CREDENTIALS` names; the files of `settings.py`, nearest first, each with the credentials file that it names. If
none of these sets anything, `xtrace-data/credentials.json` is used if it exists; otherwise the address is the hosted
service's. No key is ever an argument, because every user of a machine can read the arguments of every process.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec
import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.settings import Setting, Settings, Source, current_settings
from xtrace_cli.options.small_files import read_small_file
from xtrace_cli.options.trust import check_direction, check_start
from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import InvalidArgument

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

T = TypeVar("T")

DEFAULT_FILE = Path("xtrace-data", "credentials.json")
_ATTEMPTS = 3
"""A person waits for the answer, so an unreachable server is reported within about a second."""

CredentialsFile = Annotated[
    Path | None,
    typer.Option(
        "--credentials",
        metavar="FILE",
        envvar="XTRACE_CREDENTIALS",
        help=f"The file with the service's address and the keys; by default {DEFAULT_FILE}, if it exists.",
    ),
]
_WAYS: Final = ("api_url", "admin_api_url", "ca_file")
_KEYS: Final = ("api_key", "admin_key")
_SETTINGS: Final = ("org_id", *_WAYS, *_KEYS)


class _Contents(Secretive, msgspec.Struct):
    """The fields of a credentials file; an empty one is unknown. A file may lack what its owner does not have."""

    api_url: str = ""
    org_id: str = ""
    api_key: str = ""
    admin_key: str = ""


class Connection(Secretive):
    """What is known about the service, and its sources. `repr` shows none of it."""

    __slots__ = ("_known",)

    def __init__(self, known: Mapping[str, Setting]) -> None:
        self._known = known

    def get(self, name: str) -> Setting | None:
        """Returns the setting of this name; None if it is unknown."""
        return self._known.get(name)

    def text(self, name: str) -> str:
        """Returns the value of the setting; empty if it is unknown."""
        return self._known[name].value if name in self._known else ""

    def integration(self, needs: tuple[str, ...], *, may_use: tuple[str, ...] = ()) -> "XTraceIntegration":
        """Returns a client of the service with the settings that it requires, and the optional ones that are known.

        Raises `WrongUse` for a missing setting, and what `check_direction` raises.
        """
        for name in needs:
            if not self.text(name):
                raise WrongUse(
                    f"this needs {_NAMES[name]}: set {_variable(name)}, or name a credentials file with --credentials"
                )
        used = {one: self._known[one] for one in (*needs, *may_use, *_WAYS) if one in self._known}
        check_direction(
            [used[one] for one in _WAYS if one in used],
            [used[one] for one in _KEYS if one in used],
        )
        from xtrace_sdk.service.integration import Retries, XTraceIntegration

        values = {name: setting.value for name, setting in used.items()}
        return XTraceIntegration(
            values.get("org_id"),
            values.get("api_key"),
            values.get("admin_key"),
            values.get("api_url"),
            values.get("admin_api_url"),
            ca_file=used["ca_file"].path if "ca_file" in used else None,
            retries=Retries(attempts=_ATTEMPTS),
        )


def known_connection(file: Path | None, settings: Settings | None = None) -> Connection:
    """Reads what the environment, the credentials file and the other files say about the service.

    Raises what reading the files raises.
    """
    settings = settings or current_settings()
    layers = [settings.environment.found]
    if file is not None:
        layers.append(contents_of(file))
    _add_private_server(layers, settings.environment.found)
    for found in settings.in_files():
        layers.append(found)
        if "credentials" in found:
            layers.append(_named_contents(found["credentials"]))
        _add_private_server(layers, found)
    if file is None and not any(name in layer for layer in layers[1:] for name in _SETTINGS) and DEFAULT_FILE.exists():
        layers.append(_contents(DEFAULT_FILE, _source(DEFAULT_FILE)))
    return Connection({name: one[name] for one in reversed(layers) for name in _SETTINGS if name in one})


def with_admin_key(file: Path | None, call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    """Returns the result of a call with the admin key.

    Raises `WrongUse` if the key or the organisation is unknown, what reading the files raises, and what the call
    raises.
    """
    return run_with(known_connection(file).integration(("org_id", "admin_key")), call)


def with_api_key(file: Path | None, call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    """Returns the result of a call with the API key; raises as `with_admin_key` does."""
    return run_with(known_connection(file).integration(("org_id", "api_key")), call)


def with_two_api_keys(
    file: Path | None, other_file: Path | None, call: "Callable[[XTraceIntegration, XTraceIntegration], Awaitable[T]]"
) -> T:
    """Returns the result of a call between two services; without a file for the other one, they are the same.

    Only that file configures the other one: neither environment variables nor other files do.
    """
    if other_file is None:
        return with_api_key(file, lambda xtrace: call(xtrace, xtrace))
    known = Connection(contents_of(other_file))
    for name in ("api_url", "org_id", "api_key"):
        if not known.text(name):
            raise WrongUse(f"{other_file} lacks {_NAMES[name]} ({name}): complete the file that --to names")
    integration = known.integration(("org_id", "api_key"))

    async def run(xtrace: "XTraceIntegration") -> T:
        async with integration as other:
            return await call(xtrace, other)

    return with_api_key(file, run)


def run_with(integration: "XTraceIntegration", call: "Callable[[XTraceIntegration], Awaitable[T]]") -> T:
    """Runs the call in a new event loop, closes the integration's connections, and returns the result."""
    import asyncio

    async def run() -> T:
        async with integration as xtrace:
            return await call(xtrace)

    return asyncio.run(run())


_NAMES = {
    "org_id": "the organisation's id",
    "api_key": "an API key",
    "admin_key": "the organisation's admin key",
    "api_url": "the service's address",
}


def _variable(name: str) -> str:
    return f"XTRACE_{name.upper()}"


def _source(file: Path) -> Source:
    """Returns the source for a file that the user did not name: one in the working folder may be someone else's."""
    return Source(str(file), file.parent, is_of_folder=file.resolve().is_relative_to(Path.cwd().resolve()))


def contents_of(file: Path) -> dict[str, Setting]:
    """Reads the credentials file that the user named. Raises `InaccessibleFile` and `InvalidArgument`."""
    return _contents(file, Source(str(file), Path.cwd()))


def _add_private_server(layers: list[Mapping[str, Setting]], found: Mapping[str, Setting]) -> None:
    """Unless an address is known, starts the named private server and adds its address and keys."""
    if "local_server" not in found or any("api_url" in one for one in layers):
        return
    from xtrace_cli.private_server import ensure_running
    from xtrace_server.credentials import CREDENTIALS_FILE

    server = found["local_server"]
    check_start(server)
    ensure_running(server.path)
    file = server.path / CREDENTIALS_FILE
    layers.append(_contents(file, _source(file)))


def _named_contents(setting: Setting) -> dict[str, Setting]:
    """Returns the contents of the credentials file that another file names."""
    if setting.source.is_of_folder:
        return _contents(setting.path, _source(setting.path))
    return _contents(setting.path, Source(str(setting.path), setting.path.parent))


def _contents(file: Path, source: Source) -> dict[str, Setting]:
    data = read_small_file(file, "credentials")
    try:
        contents = msgspec.json.decode(data, type=_Contents)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidArgument(
            f"{file} does not contain credentials: expected a JSON object with the texts api_url, org_id, api_key, "
            "admin_key"
        ) from None
    return dict(_given(contents, source))


def _given(contents: _Contents, source: Source) -> Iterator[tuple[str, Setting]]:
    for name in contents.__struct_fields__:
        if value := getattr(contents, name):
            yield name, Setting(name, value, source)
