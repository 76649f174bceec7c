"""Chooses the server of `xtrace init`, and its variables for `.env`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.connection import Connection, contents_of, known_connection, run_with
from xtrace_cli.options.settings import DOTENV, VARIABLES, Setting, Source, current_settings
from xtrace_cli.output import note
from xtrace_cli.setup.questions import Questions

if TYPE_CHECKING:
    from xtrace_sdk.service.integration import XTraceIntegration

DEFAULT_DATA: Final = Path("xtrace-data")
_KEYS: Final = ("org_id", "api_key", "admin_key")


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """The values of the flags about the server."""

    url: str | None
    local: bool
    data: Path
    credentials: Path | None
    keep_keys: bool | None


@dataclass(frozen=True, slots=True)
class ChosenServer:
    """The connection to the server."""

    connection: Connection
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    """The variables for `.env`; includes keys only if the user agreed."""

    def integration(self) -> "XTraceIntegration":
        """Returns a client of it. Raises `WrongUse` without an organisation and an API key."""
        return self.connection.integration(("org_id", "api_key"), may_use=("admin_key",))

    def setting(self, name: str) -> Setting | None:
        """Returns the setting as `.env` will contain it, or None."""
        value = self.variables.get(VARIABLES[name][0])
        return None if value is None else Setting(name, value, Source(DOTENV, Path.cwd(), is_of_folder=True))


def choose_server(questions: Questions, options: ServerOptions) -> ChosenServer:
    """Returns the server that the flags, the settings or the answers name; starts a private one.

    Raises `WrongUse`, `NotConfirmed`, and what files and servers raise.
    """
    if options.local and (options.url or options.credentials):
        raise WrongUse("give either --local, or --url and --credentials")
    if options.local:
        return _private(options.data)
    if options.url or options.credentials:
        return _at(questions, options.url, options.credentials, options.keep_keys)
    known = known_connection(None)
    if known.text("org_id") and (key := known.get("api_key")) is not None:
        address = known.text("api_url") or "the hosted service"
        if questions.wants(f"Use {address} with the API key from {key.source.label}?", None, default=True):
            return ChosenServer(known)
    if not questions.may_ask:
        raise WrongUse("no server was given: use --url URL and --credentials FILE, or --local for a private one")
    url = questions.text("The server's URL, or Enter for a private server on this machine", "--url", "")
    if not url:
        return _private(options.data)
    file = questions.text("The credentials file, or Enter to type the keys", "--credentials", "")
    return _at(questions, url, Path(file).expanduser() if file else None, options.keep_keys)


def contexts_on(server: ChosenServer) -> list[str]:
    """Tries the keys on the server, and returns the ids of the contexts that can be restored from there.

    Raises what the calls raise.
    """

    async def call(xtrace: "XTraceIntegration") -> list[str]:
        contexts = await xtrace.list_exec_contexts(restorable=True)
        if xtrace.admin_key:
            await xtrace.list_kbs()
        return contexts

    integration = server.integration()
    contexts = run_with(integration, call)
    note(f"{integration.api_url} responds and accepts the keys")
    return contexts


def as_written(path: Path) -> str:
    """Returns the path for `.env`: relative inside the working folder, absolute elsewhere."""
    here, whole = Path.cwd().resolve(), path.resolve()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _private(data: Path) -> ChosenServer:
    from xtrace_cli.private_server import ensure_running

    credentials = ensure_running(data)
    note(f"a private server runs at {credentials.api_url}; `xtrace local-server stop` stops it")
    file = data / "credentials.json"
    return ChosenServer(Connection(contents_of(file)), {"XTRACE_LOCAL_SERVER": as_written(data)})


def _at(questions: Questions, url: str | None, file: Path | None, keep_keys: bool | None) -> ChosenServer:
    typed = Source("your answer", Path.cwd())
    found = {} if file is None else contents_of(file)
    variables = {} if file is None else {"XTRACE_CREDENTIALS": as_written(file)}
    if url and ("api_url" not in found or found["api_url"].value != url):
        found["api_url"] = Setting("api_url", url, typed)
        variables["XTRACE_API_URL"] = url
    if file is None:
        environment = current_settings().environment.found
        found |= {name: environment[name] for name in _KEYS if name in environment}
        if "api_key" not in found:
            found |= _typed_keys(questions, typed)
            if questions.wants(f"Keep the keys in {DOTENV}, which only you can read?", keep_keys, default=False):
                variables |= {VARIABLES[name][0]: found[name].value for name in _KEYS if name in found}
            else:
                note(
                    "the keys are not saved: set XTRACE_ORG_ID, XTRACE_API_KEY and XTRACE_ADMIN_KEY before each command"
                )
    return ChosenServer(Connection(found), variables)


def _typed_keys(questions: Questions, typed: Source) -> dict[str, Setting]:
    answers = {
        "org_id": questions.text("The organisation's id", "XTRACE_ORG_ID or --credentials"),
        "api_key": questions.secret("The API key", "XTRACE_API_KEY or --credentials"),
        "admin_key": questions.secret("The admin key, or Enter without one", "XTRACE_ADMIN_KEY", may_be_empty=True),
    }
    return {name: Setting(name, value, typed) for name, value in answers.items() if value}
