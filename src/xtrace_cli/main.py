"""The command's entry: its subcommands, and what becomes of an error.

Results go to standard output, everything else to standard error. An expected failure is one sentence there and the
exit status 1, a wrong use of the command the exit status 2, Ctrl-C 130; a traceback is always a bug.
"""

import sys
from importlib.metadata import version as distribution_version
from typing import NoReturn

import typer

from xtrace_cli.demo import demo
from xtrace_cli.serve import serve
from xtrace_sdk.errors import XTraceError

app = typer.Typer(
    name="xtrace",
    help="An end-to-end encrypted vector database: the server searches what it cannot read.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(serve)


@app.command()
def version() -> None:
    """Prints the version."""
    typer.echo(f"xtrace {distribution_version('xtrace')}")


def main() -> NoReturn:
    """Runs the command line and exits."""
    try:
        app()
    except XTraceError as error:
        typer.echo(f"xtrace: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("xtrace: stopped", err=True)
        sys.exit(130)
    sys.exit(0)
