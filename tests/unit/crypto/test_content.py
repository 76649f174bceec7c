"""The content cipher: what it accepts is exactly what it wrote, for the same nonce, under the same key."""

import base64

import pytest

from support import reference_paillier as reference
from xtrace_sdk.errors import ContentTampered, InvalidArgument, UnknownContent
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.keys.hedging import Hedge

KEY = bytes(range(32))
HEDGE = Hedge(bytes(32))
NONCE = bytes(range(100, 130))
TEXT = "what the server must not read"


@pytest.fixture
def cipher() -> ContentCipher:
    return ContentCipher(KEY, HEDGE)


def changed(stored: str, position: int, mask: int) -> str:
    data = bytearray(base64.b64decode(stored))
    data[position] ^= mask
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("content", ["", "x", TEXT, "Größe 東京 🗝", "a\0b", "long " * 10_000])
def test_text_and_bytes_come_back(cipher: ContentCipher, content: str) -> None:
    for nonce in (NONCE, None):
        assert cipher.decrypt(cipher.encrypt(content, nonce), nonce) == content
        assert cipher.decrypt_bytes(cipher.encrypt(content.encode(), nonce).encode(), nonce) == content.encode()


def test_bytes_that_are_not_text_are_not_taken_for_it(cipher: ContentCipher) -> None:
    stored = cipher.encrypt(b"\xff\xfe secret", NONCE)
    with pytest.raises(UnknownContent, match="not UTF-8 text: use decrypt_bytes") as raised:
        cipher.decrypt(stored, NONCE)
    assert raised.value.__cause__ is None
    assert cipher.decrypt_bytes(stored, NONCE) == b"\xff\xfe secret"
    with pytest.raises(ContentTampered):
        cipher.decrypt(changed(stored, 40, 1), NONCE)


def test_what_is_stored_is_iv_tag_and_ciphertext_in_base64(cipher: ContentCipher) -> None:
    data = base64.b64decode(cipher.encrypt(TEXT, NONCE), validate=True)
    assert len(data) == 32 + len(TEXT)
    assert data == reference.sealed(
        reference.content_key(KEY, NONCE), data[:16], TEXT.encode(), b"xtrace/content/2" + NONCE
    )


def test_the_same_content_never_looks_the_same_twice(cipher: ContentCipher) -> None:
    stored = [base64.b64decode(cipher.encrypt(TEXT, NONCE)) for _ in range(50)]
    assert len({data[:16] for data in stored}) == 50
    assert len({data[32:] for data in stored}) == 50


@pytest.mark.parametrize("position", [0, 7, 15, 16, 23, 31, 32, 40, -1])
def test_every_flipped_bit_of_a_byte_in_iv_tag_or_ciphertext_is_noticed(cipher: ContentCipher, position: int) -> None:
    stored = cipher.encrypt(TEXT, NONCE)
    for bit in range(8):
        with pytest.raises(ContentTampered):
            cipher.decrypt_bytes(changed(stored, position, 1 << bit), NONCE)


def test_every_truncation_is_noticed(cipher: ContentCipher) -> None:
    data = base64.b64decode(cipher.encrypt(TEXT, NONCE))
    for length in range(len(data)):
        for piece in (data[:length], data[len(data) - length :]):
            with pytest.raises(ContentTampered):
                cipher.decrypt_bytes(base64.b64encode(piece).decode(), NONCE)


def test_anything_appended_is_noticed(cipher: ContentCipher) -> None:
    data = base64.b64decode(cipher.encrypt(TEXT, NONCE))
    for longer in (data + b"\0", b"\0" + data, data + data):
        with pytest.raises(ContentTampered):
            cipher.decrypt_bytes(base64.b64encode(longer).decode(), NONCE)


@pytest.mark.parametrize("garbage", ["", "A", "AAA", "=", "no base64!", "ä", "A" * 41, "\0" * 44, b"\xff", "_-" * 24])
def test_what_is_no_base64_or_under_32_bytes_is_refused(cipher: ContentCipher, garbage: str | bytes) -> None:
    with pytest.raises(ContentTampered):
        cipher.decrypt_bytes(garbage, NONCE)


def test_spaces_or_a_missing_padding_are_no_base64(cipher: ContentCipher) -> None:
    stored = cipher.encrypt(TEXT + "!", NONCE)
    assert stored.endswith("=")
    for other in (stored + "\n", " " + stored, stored[:10] + "\n" + stored[10:], stored.rstrip("=")):
        with pytest.raises(ContentTampered):
            cipher.decrypt_bytes(other, NONCE)


@pytest.mark.parametrize("nonce", [None, b"", bytes(30), NONCE[:-1], NONCE + b"\0", NONCE[::-1]])
def test_content_belongs_to_its_vector(cipher: ContentCipher, nonce: bytes | None) -> None:
    with pytest.raises(ContentTampered):
        cipher.decrypt_bytes(cipher.encrypt(TEXT, NONCE), nonce)
    with pytest.raises(ContentTampered):
        cipher.decrypt_bytes(cipher.encrypt(TEXT, nonce), NONCE)


def test_another_key_does_not_open_it(cipher: ContentCipher) -> None:
    with pytest.raises(ContentTampered):
        ContentCipher(bytes(32), HEDGE).decrypt_bytes(cipher.encrypt(TEXT, NONCE), NONCE)


def test_all_failures_look_alike(cipher: ContentCipher) -> None:
    stored = cipher.encrypt(TEXT, NONCE)
    bad = ["", "!", "AAAA", changed(stored, 0, 1), changed(stored, 20, 1), changed(stored, -1, 1)]
    messages = set()
    for garbage in bad:
        with pytest.raises(ContentTampered) as caught:
            cipher.decrypt_bytes(garbage, NONCE)
        messages.add(str(caught.value))
    with pytest.raises(ContentTampered) as caught:
        cipher.decrypt_bytes(stored, None)
    assert messages == {str(caught.value)}


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_keys_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{length} bytes, expected 32"):
        ContentCipher(bytes(length), HEDGE)


def test_text_that_utf8_cannot_hold_is_refused_without_showing_it(cipher: ContentCipher) -> None:
    with pytest.raises(InvalidArgument) as caught:
        cipher.encrypt("secret \ud800", NONCE)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
