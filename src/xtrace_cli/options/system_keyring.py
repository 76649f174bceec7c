"""Passphrases in the system's keyring: the package `keyring` finds it, which the extra of that name installs."""

from importlib.util import find_spec
from typing import Final

from xtrace_cli.errors import NoKeyring

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


def has_keyring() -> bool:
    """Whether there is a keyring that can keep a passphrase."""
    if find_spec("keyring") is None:
        return False
    import keyring
    from keyring.backends.fail import Keyring

    return not isinstance(keyring.get_keyring(), Keyring)


def keep_passphrase(context_id: str, passphrase: str) -> None:
    """Gives the keyring the passphrase of a context. Raises `NoKeyring` if there is none, or it refuses."""
    if not has_keyring():
        raise NoKeyring(
            "this machine has no keyring that xtrace can use: install one, and pip install 'xtracedb[keyring]'"
        )
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(_SERVICE, context_id, passphrase)
    except KeyringError as error:
        raise NoKeyring(f"the system's keyring refused the passphrase ({type(error).__name__}): unlock it") from None
