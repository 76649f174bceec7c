"""`xtrace demo`: the command; what it does is in `demonstration`, which takes a second to import."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    folder: Annotated[
        Path | None, typer.Argument(help="A folder of .txt and .md files; by default Python's language reference.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the server's files and the client's keys are kept.")] = Path(
        "xtrace-data"
    ),
    ask: Annotated[list[str] | None, typer.Option(help="A question; may be given several times.")] = None,
) -> None:
    """Encrypts, stores and searches documents on a private server.

    Asks questions, prints the answers, and shows what the server holds of them. A second run finds what is stored and
    loads only what has changed.
    """
    from xtrace_cli.demonstration import demonstrate

    demonstrate(folder, data, ask)
