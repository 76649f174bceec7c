"""Passphrases in the system's keyring: the package `keyring` finds it, which the extra of that name installs."""

from importlib.util import find_spec
from typing import Final

_SERVICE: Final = "xtrace"


def kept_passphrase(context_id: str) -> str | None:
    """The passphrase that the keyring has for a context; None without one, and without a keyring that answers."""
    if find_spec("keyring") is None:
        return None
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(_SERVICE, context_id)
    except KeyringError:  # there is none on this machine, or it is locked: the passphrase can be typed
        return None
