"""`xtrace serve`."""

from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.local_server import ServerDidNotStart


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0 takes a free one.")] = 8000,
    data: Annotated[Path, typer.Option(help="The folder of the database and the credentials.")] = Path("xtrace-data"),
) -> None:
    """Runs the service until Ctrl-C or SIGTERM.

    The first start on an empty folder makes an organisation and its keys, and writes them to credentials.json in it.
    """
    from xtrace_server import serving
    from xtrace_server.settings import Settings

    try:
        serving.run(Settings(host=host, port=port, data=data))
    except serving.CannotServe as error:
        raise ServerDidNotStart(str(error)) from None
