"""`xtrace version`."""

from typing import Annotated

import typer

import xtrace_sdk
from xtrace_cli.output import Json, fields, show


def version(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Also print the environment; include this in bug reports.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the version."""
    foundations = _foundations() if verbose else []
    result = {"xtrace": xtrace_sdk.__version__, **{name.lower(): text for name, text in foundations}}
    show(result, as_json, lambda: _print(foundations))


def _print(foundations: list[tuple[str, str]]) -> None:
    typer.echo(f"xtrace {xtrace_sdk.__version__}")
    if foundations:
        fields(foundations)


def _foundations() -> list[tuple[str, str]]:
    import platform
    import sqlite3

    import cryptography
    import gmpy2

    from xtrace_core.arithmetic import describe

    return [
        ("Python", f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})"),
        ("gmpy2", f"{gmpy2.version()} ({gmpy2.mp_version()})"),
        ("cryptography", cryptography.__version__),
        ("SQLite", sqlite3.sqlite_version),
        ("arithmetic", describe()),
    ]
