"""A file of the working folder cannot direct the user's keys elsewhere.

Whoever clones a repository and runs a command in it runs it with that repository's `.env`, `xtrace.toml` and
`xtrace-data/credentials.json`. What these say about the way to the service (an address, a certificate authority) is
never used with a key from the environment or the user's own files, unless the person at the terminal agrees.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from xtrace_cli.errors import NotConfirmed, UntrustedFolder
from xtrace_cli.options.settings import VARIABLES, Setting
from xtrace_cli.output import is_watched, wants

_NAMES: Final = {
    "api_url": "the service's address",
    "admin_api_url": "the control plane's address",
    "ca_file": "a certificate authority",
    "api_key": "the API key",
    "admin_key": "the admin key",
}
_agreed: set[tuple[str, str, str]] = set()
"""What the person at the terminal has agreed to in this process."""


def check_direction(ways: Iterable[Setting], secrets: Iterable[Setting]) -> None:
    """Asks before a file of the folder decides where secrets from elsewhere go.

    `ways` say where requests go or whom they trust, `secrets` travel with them. Raises `UntrustedFolder` when not
    interactive, and `NotConfirmed` if the person says no.
    """
    elsewhere = next((one for one in secrets if not one.source.is_of_folder), None)
    for way in ways:
        if way.source.is_of_folder and elsewhere is not None:
            _ask(way, elsewhere)


def _ask(way: Setting, secret: Setting) -> None:
    what, key = _NAMES.get(way.name, way.name), _NAMES.get(secret.name, secret.name)
    agreement = (way.source.label, way.name, way.value)
    if agreement in _agreed:
        return
    if not is_watched():
        raise UntrustedFolder(
            f"{way.source.label} in this folder names {what} ({_shown(way)}), but {key} comes from "
            f"{secret.source.label}, so nothing was sent: set {VARIABLES[way.name][0]} in the environment to allow it"
        )
    if not wants(
        f"{way.source.label} in this folder names {what}: {_shown(way)}. Use it with {key} from {secret.source.label}?"
    ):
        raise NotConfirmed("not confirmed, so nothing was sent")
    _agreed.add(agreement)


def _shown(way: Setting) -> str:
    """The value without a password."""
    if not way.name.endswith("url"):
        return str(way.path)
    parts = urlsplit(way.value)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
