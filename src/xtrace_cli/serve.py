"""`xtrace serve`."""

import signal
from typing import Annotated

import typer

from xtrace_cli.errors import ServerDidNotStart
from xtrace_cli.server_data import DEFAULT_FOLDER, DataFolder, server_settings
from xtrace_cli.signals import end_as_ctrl_c_does


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

    # The server finishes what is in flight by itself, then raises the signal again: that is no failure.
    end_as_ctrl_c_does(signal.SIGTERM)
    try:
        serving.run(settings)
    except serving.CannotServe as error:
        raise ServerDidNotStart(str(error)) from None
    except KeyboardInterrupt:
        return  # before the server listened to signals: nothing was in flight
