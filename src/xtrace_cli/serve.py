"""`xtrace serve`."""

import signal
from typing import Annotated

import typer

from xtrace_cli.errors import ServerDidNotStart
from xtrace_cli.server_data import DEFAULT_FOLDER, DataFolder, server_settings


def serve(
    host: Annotated[str, typer.Option(envvar="XTRACE_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(envvar="XTRACE_PORT", min=0, max=65535, help="The port to listen on; 0 takes a free one."),
    ] = 8000,
    data: DataFolder = DEFAULT_FOLDER,
) -> None:
    """Runs the service until Ctrl-C or SIGTERM.

    The first start on an empty folder makes an organisation and its keys, and writes them to credentials.json in it.
    """
    settings = server_settings(host=host, port=port, data=data)
    from xtrace_server import serving

    # The server ends in good order at SIGTERM as it does at Ctrl-C; it raises the signal again when it has.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serving.run(settings)
    except serving.CannotServe as error:
        raise ServerDidNotStart(str(error)) from None
