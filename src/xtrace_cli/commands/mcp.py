"""`xtrace mcp`, also installed as `xtrace-mcp`."""

import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from xtrace_cli.errors import WrongUse
from xtrace_cli.options.amount import amount
from xtrace_cli.options.connection import DEFAULT_FILE, CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.options.settings import DOTENV, Settings, current_settings
from xtrace_cli.options.typed_secret import TypedSecret
from xtrace_cli.output import note
from xtrace_cli.signals import end_as_ctrl_c_does
from xtrace_cli.workspace import DEFAULT_CONTEXT, ContextFile, Given, Workspace, with_workspace
from xtrace_core.files import create_file
from xtrace_sdk.errors import InaccessibleFile, InvalidArgument

if TYPE_CHECKING:
    from xtrace_cli.mcp.files import AllowedFolders

DEFAULT_PORT: Final = 8765
_TOKEN: Final = TypedSecret("token", "XTRACE_MCP_TOKEN", "--token-file")


@dataclass(frozen=True, slots=True)
class Offered:
    """What a host's agent may do."""

    kbs: list[str]
    allowed: list[Path]
    max_bytes: int
    reads_only: bool


def mcp(
    kbs: Annotated[
        list[str] | None,
        typer.Option(
            "--kb",
            metavar="NAME",
            help="A knowledge base that the agent may use, by name or id; may be given several times, the default "
            "first. By default XTRACE_KB, else documents.",
        ),
    ] = None,
    allow: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Let the agent load files below this folder; may be given several times."),
    ] = None,
    max_size: Annotated[str, typer.Option(metavar="SIZE", help="Refuse to load files that are larger.")] = "32MiB",
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer only what changes nothing.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Work in this folder, as if started there: hosts start servers anywhere."),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="Serve over Streamable HTTP instead of standard input and output.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address for --http, which only this machine can reach.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port for --http; 0 takes a free one.")] = (
        DEFAULT_PORT
    ),
    token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file with the token for --http, created with a random one if it does not exist. By default "
            "XTRACE_MCP_TOKEN.",
        ),
    ] = None,
    context: ContextFile = None,
    passphrase_file: PassphraseFile = None,
    credentials: CredentialsFile = None,
) -> None:
    """Give the agent of an MCP host encrypted memory, and search in your documents.

    Runs on your machine and keeps the keys here. The tools are remember, search, forget, list and load_file. A host
    such as Claude Desktop starts this command and speaks with it over standard input and output (docs/mcp.md).
    """
    if find_spec("mcp") is None:
        raise WrongUse("this needs the MCP SDK: pip install 'xtracedb[mcp]'")
    if folder is not None:
        _enter(folder)
    token = _token(token_file, host) if http else None
    max_bytes = amount(max_size, "--max-size")
    if max_bytes is None:
        raise WrongUse("--max-size is none, expected a size such as 100MiB: a file is read into memory")
    given = Given(credentials, context, passphrase_file)
    offered = Offered(kbs or [], allow or [], max_bytes, read_only)
    folders = _folders(offered, given, token_file)
    if token is None:
        # A host closes standard input, then sends a signal if the process is still running. A read cannot be cancelled.
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
    else:
        end_as_ctrl_c_does(signal.SIGTERM)

    async def act(workspace: Workspace) -> None:
        from xtrace_cli.mcp.access import Access
        from xtrace_cli.mcp.server import new_server
        from xtrace_cli.mcp.serving import serve_http, serve_stdio

        access = Access(workspace, offered.kbs, folders, max_bytes=max_bytes, can_write=not read_only)
        server = new_server(access)
        if token is None:
            await serve_stdio(server)
        else:
            await serve_http(server, host, port, token)

    with_workspace(given, act)


def _enter(folder: Path) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise InaccessibleFile(f"--folder {folder} cannot be entered: {error.strerror}") from None


def _token(file: Path | None, host: str) -> str:
    """Returns the token for HTTP. Raises `WrongUse` for an address that others can reach, and without a token."""
    from xtrace_cli.mcp.guard import SHORTEST_TOKEN
    from xtrace_server.listening import is_loopback

    if not is_loopback(host):
        raise WrongUse(
            f"--host is {host}, expected an address that only this machine can reach, such as 127.0.0.1: anyone who "
            "can call this server can read what you store"
        )
    if file is not None and not file.exists():
        try:
            create_file(file, secrets.token_urlsafe(SHORTEST_TOKEN).encode() + b"\n")
        except OSError as error:
            raise InaccessibleFile(f"the token cannot be written to {file}: {error.strerror}") from None
        note(f"created a token for hosts in {file}")
    token = _TOKEN.given(file)
    if token is None:
        raise WrongUse("--http needs a token: give --token-file FILE, or set XTRACE_MCP_TOKEN")
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InvalidArgument(
            f"the token is not valid, expected at least {SHORTEST_TOKEN} printable ASCII characters without spaces: "
            "--token-file with a new file creates one"
        )
    return token


def _folders(offered: Offered, given: Given, token_file: Path | None) -> "AllowedFolders":
    from xtrace_cli.mcp.files import AllowedFolders

    return AllowedFolders(
        offered.allowed, [*_secrets(given, current_settings()), *([token_file] if token_file else [])]
    )


def _secrets(given: Given, settings: Settings) -> Iterator[Path]:
    """Returns the files with keys: those that the options and settings name, and the default ones."""
    yield from (
        Path(DOTENV),
        DEFAULT_FILE.parent,
        DEFAULT_CONTEXT.parent if DEFAULT_CONTEXT.exists() else DEFAULT_CONTEXT,
    )
    yield from filter(None, (given.context, given.passphrase_file, given.credentials))
    yield from filter(None, map(settings.path, ("context", "key_file", "credentials", "local_server")))
