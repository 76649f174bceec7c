"""`xtrace demo`: the command. Its work is in `demonstration`, which takes a second to import."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.signals import HANG_UP, end_as_ctrl_c_does


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="A folder of documents; by default Python's language reference."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the server's files and the client's keys are kept.")] = Path(
        "xtrace-data"
    ),
    ask: Annotated[
        list[str] | None, typer.Option(metavar="QUESTION", help="A question to ask; may be given several times.")
    ] = None,
) -> None:
    """Encrypt, store and search documents on a private server.

    Asks questions, prints the results, and shows what the server stores for a passage. A second run loads only what
    has changed. Ends with three commands to try next.
    """
    # The server must not outlive the demonstration, however that ends.
    end_as_ctrl_c_does(signal.SIGTERM, *HANG_UP)
    from xtrace_cli.demo.demonstration import demonstrate

    demonstrate(folder, data, ask)
