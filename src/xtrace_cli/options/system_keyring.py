"""Passphrases in the system's keyring, through the package `keyring`, which the extra of that name installs."""

from importlib.util import find_spec
from typing import Final

from xtrace_cli.errors import NoKeyring

_SERVICE: Final = "xtrace"


def kept_passphrase(context_id: str) -> str | None:
    """Returns the context's passphrase from the keyring; None if there is none, or no usable keyring."""
    if find_spec("keyring") is None:
        return None
    import keyring
    from keyring.errors import KeyringError

    try:
        return keyring.get_password(_SERVICE, context_id)
    except (KeyringError, OSError):  # this machine has no keyring, or it is locked: the passphrase can be typed
        return None


def has_keyring() -> bool:
    """Whether a keyring that can store a passphrase is available."""
    if find_spec("keyring") is None:
        return False
    import keyring
    from keyring.backends.fail import Keyring

    return not isinstance(keyring.get_keyring(), Keyring)


def keep_passphrase(context_id: str, passphrase: str) -> None:
    """Stores the passphrase of a context in the keyring. Raises `NoKeyring` if there is none, or it refuses."""
    if not has_keyring():
        raise NoKeyring(
            "this machine has no keyring that xtrace can use: install one, and pip install 'xtracedb[keyring]'"
        )
    import keyring
    from keyring.errors import KeyringError

    try:
        keyring.set_password(_SERVICE, context_id, passphrase)
    except (KeyringError, OSError) as error:
        raise NoKeyring(f"the system's keyring refused the passphrase ({type(error).__name__}): unlock it") from None
