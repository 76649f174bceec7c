"""`xtrace local-server`: the private server that `xtrace init --local` set up."""

from pathlib import Path
from typing import Annotated

import typer

from xtrace_cli.groups import new_group
from xtrace_cli.options.settings import current_settings
from xtrace_cli.output import Json, fields, note, show

app = new_group("local-server", "The private server of `xtrace init --local`: start, stop, status.")

PrivateData = Annotated[
    Path | None,
    typer.Option("--data", help="The server's data folder; by default XTRACE_LOCAL_SERVER, else xtrace-data."),
]


@app.command()
def start(data: PrivateData = None, as_json: Json = False) -> None:
    """Start the server if it is not running, and print its address.

    It keeps running until `xtrace local-server stop`. Other commands start it when they need it.
    """
    from xtrace_cli.private_server import ensure_running

    url = ensure_running(_folder(data)).api_url
    show({"api_url": url}, as_json, lambda: typer.echo(url))


@app.command()
def stop(data: PrivateData = None, as_json: Json = False) -> None:
    """Stop the server after it has finished its requests. Its data stays."""
    from xtrace_cli import private_server

    folder = _folder(data)
    stopped = private_server.stop(folder)
    said = "stopped" if stopped else "it does not run"
    show({"stopped": stopped}, as_json, lambda: note(f"the private server over {folder}: {said}"))


@app.command()
def status(data: PrivateData = None, as_json: Json = False) -> None:
    """Print whether the server runs, its address, and its log file."""
    from xtrace_cli.private_server import process_id
    from xtrace_cli.server_process import log_of, written_credentials

    folder = _folder(data)
    pid = process_id(folder)
    credentials = None if pid is None else written_credentials(folder, 0)
    result = {
        "running": pid is not None,
        "api_url": None if credentials is None else credentials.api_url,
        "process_id": pid,
        "data": str(folder),
        "log": str(log_of(folder)),
    }
    lines = [(name.replace("_", " "), value) for name, value in result.items() if value is not None]
    show(
        result,
        as_json,
        lambda: fields((name, "yes" if one is True else "no" if one is False else one) for name, one in lines),
    )


def _folder(given: Path | None) -> Path:
    return given or current_settings().path("local_server") or Path("xtrace-data")
