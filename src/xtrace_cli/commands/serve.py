"""`xtrace serve`."""

import os
import signal
from collections.abc import Container, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from xtrace_cli.errors import ServerDidNotStart, WrongSettings, WrongUse
from xtrace_cli.options.server_data import DEFAULT_FOLDER, checked_settings, has_password, server_settings
from xtrace_cli.output import say
from xtrace_cli.signals import end_as_ctrl_c_does


class Engine(StrEnum):
    """The values of `--engine`."""

    LOCAL = "local"
    RAY = "ray"


def serve(
    host: Annotated[
        str | None, typer.Option(envvar="XTRACE_HOST", help="The address to listen on; by default 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="XTRACE_PORT", min=0, max=65535, help="The port to listen on, by default 8000; 0 selects a free one."
        ),
    ] = None,
    ops_port: Annotated[
        int | None,
        typer.Option(envvar="XTRACE_OPS_PORT", min=1, max=65535, help="A second port, for probes and metrics."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N", envvar="XTRACE_WORKERS", min=1, max=64, help="The number of worker processes; by default 1."
        ),
    ] = None,
    drain_s: Annotated[
        float | None,
        typer.Option(
            "--drain-s",
            metavar="SECONDS",
            envvar="XTRACE_DRAIN_S",
            min=0,
            help="How long the server reports that it is not ready, while it still serves, before it stops; by "
            "default 0.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            envvar="XTRACE_DATA",
            help=f"The folder of the server's database and credentials; by default {DEFAULT_FOLDER}.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="XTRACE_DATABASE_URL",
            help="The database, such as postgresql://user@host/name; by default a SQLite file in the data folder.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="XTRACE_CONFIG", help="A TOML file with server settings."),
    ] = None,
    no_dashboard: Annotated[
        bool | None, typer.Option("--no-dashboard", help="Disable the dashboard, which is served at / by default.")
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT",
            envvar="XTRACE_DASHBOARD_PORT",
            min=1,
            max=65535,
            help="A separate port for the dashboard; by default --port.",
        ),
    ] = None,
    no_operator_api: Annotated[
        bool | None,
        typer.Option("--no-operator-api", help="Disable the operator's routes; commands on the host still work."),
    ] = None,
    tls_certificate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="XTRACE_TLS_CERTIFICATE", help="Serve HTTPS with this certificate (PEM)."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="XTRACE_TLS_KEY", help="The private key of the certificate (PEM)."),
    ] = None,
    new_database: Annotated[
        bool | None,
        typer.Option("--new-database", help="Start even if the database that belongs to credentials.json is missing."),
    ] = None,
    engine: Annotated[
        Engine | None,
        typer.Option(
            envvar="XTRACE_ENGINE",
            help="Where to compute searches of large knowledge bases: in this process (local, the default) or in a "
            "Ray cluster.",
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="XTRACE_RAY_ADDRESS",
            help="The Ray cluster's address; by default that of the Ray node on this host.",
        ),
    ] = None,
    shared: Annotated[
        bool | None,
        typer.Option("--shared", help="Allow several servers on the same folder; all of them need this flag."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set any other setting; see docs/operations.md."),
    ] = None,
    check_config: Annotated[
        bool,
        typer.Option(
            "--check-config", help="Check the configuration without starting the server or changing anything."
        ),
    ] = False,
) -> None:
    """Run the server until Ctrl-C or SIGTERM. With --workers, SIGHUP replaces every worker with a new one.

    The first start on an empty folder creates an organisation and its keys. It writes them to credentials.json, and
    the operator key to operator.json. Flags override environment variables, which override the configuration file.
    """
    flags = {
        "host": host,
        "port": port,
        "ops_port": ops_port,
        "workers": workers,
        "drain_s": drain_s,
        "dashboard": False if no_dashboard else None,
        "dashboard_port": dashboard_port,
        "operator_api": False if no_operator_api else None,
        "data": data,
        "database_url": _without_password(database),
        "config": config,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "new_database": new_database,
        "engine": engine,
        "ray_address": ray_address,
        "shared": shared,
    }
    given = {name: value for name, value in flags.items() if value is not None}
    given |= _assignments(set_ or [], given)
    if check_config:
        _check(given)
        return
    settings = server_settings(**given)
    from xtrace_server import serving
    from xtrace_server import workers as several

    # The server finishes the requests in flight, then raises the signal again: that is not a failure.
    end_as_ctrl_c_does(signal.SIGTERM)
    try:
        (several if settings.workers > 1 else serving).run(settings)
    except serving.CannotServe as error:
        raise ServerDidNotStart(str(error)) from None
    except KeyboardInterrupt:
        return  # before the server handled signals: no request was in flight


def _check(given: Mapping[str, Any]) -> None:
    """Prints a sentence for each check. Raises `WrongSettings` if the server would not work."""
    settings, faults = checked_settings(**given)
    if settings is None:
        for fault in faults:
            say(f"error: {fault}")
        raise WrongSettings("correct the settings above, then check the rest again")
    from xtrace_server.checking.every import findings

    found = list(findings(settings))
    for finding in found:
        say(f"{finding.level}: {finding.sentence}")
    if any(finding.level == "error" for finding in found):
        raise WrongSettings("the server would not start or work with these settings: see the errors above")


def _without_password(url: str | None) -> str | None:
    """Returns the URL as given. Raises `WrongUse` if it contains a password and came from the command line."""
    if url is not None and url != os.environ.get("XTRACE_DATABASE_URL") and has_password(url):
        raise WrongUse(
            "--database contains a password, and every user can read arguments: set XTRACE_DATABASE_URL, or put the "
            "password into PGPASSWORD or a password file (PGPASSFILE)"
        )
    return url


def _assignments(texts: Sequence[str], given: Container[str]) -> dict[str, str]:
    """Parses settings such as `max_chunks=500`. Raises `WrongUse`."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise WrongUse("--set takes NAME=VALUE, such as --set max_chunks=500")
        if name in given or name in found:
            raise WrongUse(f"the setting {name} is given twice")
        if name == "metrics_token":
            raise WrongUse("metrics_token is a secret, and every user can read arguments: set XTRACE_METRICS_TOKEN")
        if name == "database_url":
            value = _without_password(value) or ""
        if name == "rate_store" and has_password(value):
            raise WrongUse(f"{name} has a password, and every user can read arguments: set XTRACE_{name.upper()}")
        found[name] = value
    return found
