"""AES-SIV of many messages at once against the one of `cryptography`, which processes them one by one."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from xtrace_sdk.x_vec.keys.siv import Siv

MAC_KEY, ENCRYPTION_KEY = bytes(range(32)), bytes(range(32, 64))
NUMBERS = np.random.default_rng(1)


def bytes_of(count: int, size: int) -> np.ndarray:
    return NUMBERS.integers(0, 256, (count, size), dtype=np.uint8)


@pytest.mark.parametrize("size", [16, 32, 64, 512])
@pytest.mark.parametrize("associated_size", [1, 15, 16, 17, 32])
def test_every_row_is_what_the_other_implementation_computes(size: int, associated_size: int) -> None:
    siv, theirs = Siv(MAC_KEY, ENCRYPTION_KEY), AESSIV(MAC_KEY + ENCRYPTION_KEY)
    messages, associated = bytes_of(40, size), bytes_of(40, associated_size)
    sealed = siv.seal(messages, associated)
    expected = [theirs.encrypt(m.tobytes(), [a.tobytes()]) for m, a in zip(messages, associated, strict=True)]
    assert [row.tobytes() for row in sealed] == expected
    opened, valid = siv.open(sealed, associated)
    assert valid.all()
    assert np.array_equal(opened, messages)


def test_the_counter_starts_where_a_tag_says_and_never_overflows() -> None:
    # With so many tags, the bits that are cleared are set in some, and the last eight bytes nearly full in others.
    siv = Siv(MAC_KEY, ENCRYPTION_KEY)
    tags = np.full((3, 16), 255, dtype=np.uint8)
    tags[1, 8:] = [127, 255, 255, 255, 127, 255, 255, 255]
    tags[2] = 0
    stream = siv._keystream(tags, 512).reshape(3, 32, 16)
    for tag, blocks in zip(tags, stream, strict=True):
        start = int.from_bytes(tag.tobytes(), "big") & ~(1 << 63) & ~(1 << 31)
        counters = b"".join((start + i).to_bytes(16, "big") for i in range(32))
        assert blocks.tobytes() == siv._aes.encrypt(counters)


def test_no_message_is_none() -> None:
    siv, nothing = Siv(MAC_KEY, ENCRYPTION_KEY), np.empty((0, 32), dtype=np.uint8)
    sealed = siv.seal(nothing, nothing)
    assert sealed.shape == (0, 48)
    opened, valid = siv.open(sealed, nothing)
    assert (opened.shape, valid.shape) == ((0, 32), (0,))


def test_each_changed_bit_is_noticed_in_its_row_alone() -> None:
    siv = Siv(MAC_KEY, ENCRYPTION_KEY)
    message, associated = bytes_of(1, 32), bytes_of(1, 32)
    sealed = siv.seal(message, associated)
    for changed in (0, 1):
        parts = [np.repeat(part, part.shape[1] * 8 + 1, axis=0) for part in (sealed, associated)]
        other = parts[1 - changed][:1].repeat(len(parts[changed]), axis=0)
        for bit in range(len(parts[changed]) - 1):
            parts[changed][bit, bit // 8] ^= 1 << bit % 8
        rows = (parts[0], other) if changed == 0 else (other, parts[1])
        assert np.flatnonzero(siv.open(*rows)[1]).tolist() == [len(parts[changed]) - 1]
