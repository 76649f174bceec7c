"""The subcommands of `xtrace`, and its error handling.

Results go to standard output, everything else to standard error. An expected failure prints one sentence and exits with
status 1, wrong use with 2, Ctrl-C with 130; a traceback is always a bug.

Slow imports (the server, numpy, the embedding models) are inside the commands that need them.
"""

import sys
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Final, NoReturn

import typer

from xtrace_cli.commands import context, db, kb, keys, local, local_server, operator, org, xvec
from xtrace_cli.commands.ask import ask
from xtrace_cli.commands.audit import audit
from xtrace_cli.commands.backup import backup, restore
from xtrace_cli.commands.context_audit import audit as audit_contexts
from xtrace_cli.commands.context_keys import rewrap, rotate
from xtrace_cli.commands.context_recovery import recover, recovery_key
from xtrace_cli.commands.demo import demo
from xtrace_cli.commands.doctor import doctor
from xtrace_cli.commands.init import init
from xtrace_cli.commands.kb_copy import copy
from xtrace_cli.commands.kb_manifest import manifest
from xtrace_cli.commands.kb_seal import seal
from xtrace_cli.commands.kb_verify import verify
from xtrace_cli.commands.load import load
from xtrace_cli.commands.mcp import mcp
from xtrace_cli.commands.moving import export, import_
from xtrace_cli.commands.search import search
from xtrace_cli.commands.serve import serve
from xtrace_cli.commands.share import share
from xtrace_cli.commands.shell import shell
from xtrace_cli.commands.usage import usage
from xtrace_cli.commands.vacuum import vacuum
from xtrace_cli.commands.version import version
from xtrace_cli.commands.xvec_upsert import upsert, upsert_file
from xtrace_cli.errors import WrongUse
from xtrace_cli.groups import new_group
from xtrace_cli.options.settings import choose_profile
from xtrace_cli.output import note, write_in_every_encoding
from xtrace_sdk.errors import XTraceError

_INTERRUPTED: Final = 130

app = new_group(
    "xtrace", "An end-to-end encrypted vector database: the server searches what it cannot read.", add_completion=True
)


@app.callback()
def _for_every_command(
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Use the settings of this profile in xtrace.toml; by default XTRACE_PROFILE, else `default`.",
        ),
    ] = None,
) -> None:
    choose_profile(profile)


app.command()(ask)
app.command()(audit)
app.command()(backup)
app.command()(demo)
app.command()(doctor)
app.command()(export)
app.command("import")(import_)
app.command()(init)
app.command()(load)
app.command()(mcp)
app.command()(restore)
app.command()(search)
app.command()(serve)
app.command()(share)
app.command()(shell)
app.command()(usage)
app.command()(vacuum)
app.command()(version)
context.app.command("audit")(audit_contexts)
context.app.command()(recover)
context.app.command("recovery-key")(recovery_key)
context.app.command()(rewrap)
context.app.command()(rotate)
kb.app.command()(copy)
kb.app.command()(manifest)
kb.app.command()(seal)
kb.app.command()(verify)
xvec.app.command()(copy)
xvec.app.command()(upsert)
xvec.app.command("upsert-file")(upsert_file)
xvec.app.command()(load)
for group in (kb, xvec, keys, context, local, local_server, org, operator, db):
    app.add_typer(group.app)


@cache
def command() -> "typer.core.TyperCommand | typer.core.TyperGroup":
    """The command with all its subcommands. Made once, because a shell carries out many lines."""
    return typer.main.get_command(app)  # type: ignore[return-value]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits."""
    write_in_every_encoding()
    warnings.showwarning = _note_warning
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default from the process's arguments, and returns its exit status."""
    try:
        command()(_with_profile_first(sys.argv[1:] if arguments is None else arguments), prog_name="xtrace")
    except XTraceError as error:
        note(str(error))
        return 2 if isinstance(error, WrongUse) else 1
    except OSError as error:
        # Errors of files that a command names have their own messages: this is the output, for example on a full disk.
        note(f"the output cannot be written: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return _stopped()
    except SystemExit as end:
        # Typer raises this after Ctrl-C.
        return _stopped() if end.code == _INTERRUPTED else int(end.code or 0)
    return 0


def _with_profile_first(arguments: Sequence[str]) -> list[str]:
    """Moves `--profile NAME` from anywhere in the arguments to before the command."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    for i, argument in enumerate(arguments[:end]):
        if argument == "--profile" or argument.startswith("--profile="):
            rest = i + (2 if argument == "--profile" else 1)
            return [*arguments[i:rest], *arguments[:i], *arguments[rest:]]
    return list(arguments)


def _note_warning(message: Warning | str, *_: object, **__: object) -> None:
    # For example for a weak key: print the sentence without the line of code.
    note(str(message))


def _stopped() -> int:
    note("stopped")
    return _INTERRUPTED
