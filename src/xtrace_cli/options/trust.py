"""Ensures that a file in the working folder cannot send the user's keys elsewhere.

A command in a cloned repository uses that repository's `.env`, `xtrace.toml` and `xtrace-data/credentials.json`. Where
these files send requests (an address, a certificate authority) is never combined with a key from the environment or the
user's own files, unless the user has agreed at the terminal (`allowed.py` remembers that). Proxies come only from the
environment.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from xtrace_cli.errors import NotConfirmed, UntrustedFolder
from xtrace_cli.options.allowed import allow, is_allowed
from xtrace_cli.options.settings import VARIABLES, Setting
from xtrace_cli.output import is_watched, wants

_NAMES: Final = {
    "api_url": "the service's address",
    "admin_api_url": "the control plane's address",
    "ca_file": "a certificate authority",
    "api_key": "the API key",
    "admin_key": "the admin key",
}
_START: Final = "start"


def check_direction(ways: Iterable[Setting], secrets: Iterable[Setting]) -> None:
    """Asks before a file in the folder decides where secrets from elsewhere are sent.

    `ways` decide where requests go or whom they trust; `secrets` are sent with them. Raises `UntrustedFolder` when not
    interactive, and `NotConfirmed` if the user declines.
    """
    elsewhere = [one for one in secrets if not one.source.is_of_folder]
    for way in ways:
        for secret in elsewhere:
            if way.source.is_of_folder and not is_allowed(way, secret.name):
                _ask(way, secret)


def allow_direction(ways: Iterable[Setting], secrets: Iterable[Setting]) -> None:
    """Remembers that the user allows these together. Raises `InaccessibleFile`."""
    for way in ways:
        for secret in secrets:
            if way.source.is_of_folder and not secret.source.is_of_folder:
                allow(way, secret.name)


def check_start(server: Setting) -> None:
    """Asks before a file in the folder makes a private server start; raises what `check_direction` raises."""
    if not server.source.is_of_folder or is_allowed(server, _START):
        return
    if not is_watched():
        raise UntrustedFolder(
            f"{server.source.label} in this folder names a private server ({server.path}), which was not started: run "
            "`xtrace init --local` here, or set XTRACE_LOCAL_SERVER in the environment to allow it"
        )
    if not wants(f"{server.source.label} in this folder names a private server ({server.path}). Start it?"):
        raise NotConfirmed("not confirmed, so nothing was started")
    allow(server, _START)


def allow_start(server: Setting) -> None:
    """Remembers that the user wants this server to be started. Raises `InaccessibleFile`."""
    if server.source.is_of_folder:
        allow(server, _START)


def check_context(context: Setting, openers: Iterable[Setting], secrets: Iterable[Setting]) -> None:
    """Asks before data is stored on the user's service under keys that a folder's author knows.

    The author knows them if files in the folder name both the context and what opens it (`openers`, such as a
    passphrase). Raises what `check_direction` raises.
    """
    opener = next((one for one in openers if one.source.is_of_folder), None)
    key = next((one for one in secrets if not one.source.is_of_folder), None)
    if not context.source.is_of_folder or opener is None or key is None or is_allowed(context, opener.name):
        return
    said = (
        f"{opener.source.label} in this folder names what opens {context.path}, so its author can read what you store"
    )
    if not is_watched():
        raise UntrustedFolder(
            f"{said}, but {_NAMES[key.name]} comes from {key.source.label}, so nothing was sent: name the context with "
            "--context, or set XTRACE_CONTEXT in the environment to allow it"
        )
    if not wants(f"{said}. Use it with {_NAMES[key.name]} from {key.source.label}, now and from now on?"):
        raise NotConfirmed("not confirmed, so nothing was sent")
    allow(context, opener.name)


def _ask(way: Setting, secret: Setting) -> None:
    what, key = _NAMES.get(way.name, way.name), _NAMES.get(secret.name, secret.name)
    if not is_watched():
        raise UntrustedFolder(
            f"{way.source.label} in this folder names {what} ({_shown(way)}), but {key} comes from "
            f"{secret.source.label}, so nothing was sent: set {VARIABLES[way.name][0]} in the environment to allow it"
        )
    if not wants(
        f"{way.source.label} in this folder names {what}: {_shown(way)}. Use it with {key} from {secret.source.label}, "
        "now and from now on?"
    ):
        raise NotConfirmed("not confirmed, so nothing was sent")
    allow(way, secret.name)


def _shown(way: Setting) -> str:
    """Returns the value without a password."""
    if way.name == "ca_file":
        return str(way.path)
    parts = urlsplit(way.value if "://" in way.value else f"//{way.value}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".removeprefix("://")
