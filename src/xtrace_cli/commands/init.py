"""`xtrace init`: the command; its steps are in `xtrace_cli.setup`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.commands.context import Scheme
from xtrace_cli.options.connection import CredentialsFile
from xtrace_cli.options.passphrase import PassphraseFile
from xtrace_cli.output import Json
from xtrace_cli.workspace import DEFAULT_CONTEXT, DEFAULT_KB, MODEL


class Keep(StrEnum):
    """Where to store the passphrase."""

    NO = "no"
    KEYRING = "keyring"
    DOTENV = "dotenv"


def init(
    url: Annotated[str | None, typer.Option(metavar="URL", help="The server's address.")] = None,
    credentials: CredentialsFile = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start a private server on this machine, which later commands use.")
    ] = False,
    data: Annotated[Path, typer.Option(help="The data folder of the private server.")] = Path("xtrace-data"),
    keep_keys: Annotated[
        bool | None, typer.Option("--keep-keys/--no-keep-keys", help="Write typed API keys to .env.")
    ] = None,
    context: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"The context to open, or to create if the file does not exist; by default {DEFAULT_CONTEXT}.",
        ),
    ] = None,
    restore: Annotated[
        str | None, typer.Option(metavar="CONTEXT_ID", help="Restore this context from the server instead.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    keep_passphrase: Annotated[
        Keep | None,
        typer.Option(help="Store the passphrase in the system's keyring, or in .env; by default it is not stored."),
    ] = None,
    recovery_key: Annotated[
        bool | None,
        typer.Option("--recovery-key/--no-recovery-key", help="Create a recovery key, and print its words once."),
    ] = None,
    scheme: Annotated[
        Scheme, typer.Option(help="The scheme of a new context; `xtrace context create --help` compares them.")
    ] = Scheme.PAILLIER_LOOKUP,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER/NAME",
            help=f"The embedding model of a new context; by default {MODEL[0]}/{MODEL[1]}, which runs on this machine.",
        ),
    ] = None,
    dimensions: Annotated[int | None, typer.Option(min=1, max=65536, help="The model's dimensions.")] = None,
    bits: Annotated[int | None, typer.Option(min=1, max=4096, help="The bits of an encrypted vector.")] = None,
    save_context: Annotated[
        bool | None,
        typer.Option(
            "--save-context/--no-save-context",
            help="Also store the context on the server, with its secrets encrypted, so that you can restore it on "
            "another machine.",
        ),
    ] = None,
    kb: Annotated[
        str | None,
        typer.Option(
            "--kb", metavar="NAME", help=f"The knowledge base, created if it is missing; by default {DEFAULT_KB}."
        ),
    ] = None,
    document: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="A first document to store; by default an example, which is deleted afterwards."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace different values of these settings in .env.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing: use the flags, and defaults for the rest.")] = False,
    as_json: Json = False,
) -> None:
    """Set up this folder with a server, a context, a model and a knowledge base, and test them with a document.

    Writes the settings to .env in the working folder (mode 0600), where later commands find them. Other lines of .env
    stay. Every question has a flag. With --yes nothing is asked: set XTRACE_PASSPHRASE, or use --passphrase-file.
    """
    from xtrace_cli.setup.context import ContextOptions
    from xtrace_cli.setup.guide import Options, guide
    from xtrace_cli.setup.server import ServerOptions

    guide(
        Options(
            server=ServerOptions(url, local, data, credentials, keep_keys),
            context=ContextOptions(
                context, restore, passphrase_file, recovery_key, scheme.value, model, dimensions, bits
            ),
            keep_passphrase=None if keep_passphrase is None else keep_passphrase.value,
            save_context=save_context,
            kb=kb,
            document=document,
            replace=replace,
            yes=yes,
            as_json=as_json,
        )
    )
