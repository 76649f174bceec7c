"""What every test of the cryptography has."""

import pytest

from support.crypto_support import show_keys


@pytest.fixture(autouse=True)
def keys_shown_on_failure() -> None:
    show_keys()
