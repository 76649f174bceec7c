"""`Mac` computes HMAC-SHA-256, as the standard library does."""

import hmac

import pytest

from xtrace_sdk.x_vec.keys.mac import Mac


@pytest.mark.parametrize("key_bytes", [0, 16, 32, 63, 64, 65, 200])
def test_tags_are_those_of_the_standard_library(key_bytes: int) -> None:
    key = bytes(range(key_bytes))
    mac = Mac(key)
    for size in (0, 1, 55, 56, 64, 800, 0):  # one message leaves nothing behind for the next
        message = bytes(i % 251 for i in range(size))
        assert mac.digest(message) == hmac.digest(key, message, "sha256")
