"""Vectors are recovered from their ciphertexts by decryption, and from nothing else."""

import numpy as np
import pytest

from support.crypto_support import SCHEMES, client, nonces_of, number, random_vectors
from xtrace_sdk.x_vec.schemes.paillier.encoding import VectorEncoding

# One ciphertext in base 4 and in base 3, the last bits of a byte, two and three ciphertexts.
LENGTHS = (1, 4, 5, 8, 255, 256, 322, 323, 600)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", LENGTHS)
def test_what_was_encrypted_comes_back(scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    vectors = np.concatenate([random_vectors(4, embed_len), np.zeros((1, embed_len)), np.ones((1, embed_len))])
    batch = owner.encrypt_vec_batch(vectors)
    forms = (batch.rows, [index.ciphertexts() for index in batch], [list(index) for index in batch])
    for rows in forms:
        for nonces in (batch.nonces, nonces_of(batch)):
            bits, valid = owner.decrypt_vec_batch(rows, nonces)
            assert valid.all()
            assert bits.dtype == np.uint8
            assert np.array_equal(bits, vectors)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", [8, 300, 600])
def test_what_is_no_stored_vector_is_not_valid(scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    batch = owner.encrypt_vec_batch(np.ones((2, embed_len)))
    rows = [index.ciphertexts() for index in batch]
    square, plus_one = owner.n**2, 1 + owner.n
    first = number(rows[0][0])

    def changed(factor: int) -> list[bytes]:
        value = first * factor % square
        return [value.to_bytes((value.bit_length() + 7) // 8, "little"), *rows[0][1:]]

    cases = {
        "as stored": (rows[0], batch[0].nonce),
        "the nonce of another": (rows[0], batch[1].nonce),
        "no nonce": (rows[0], None),
        "a digit too large": (changed(plus_one), batch[0].nonce),
        "beyond the last position": (changed(pow(plus_one, 4**embed_len, square)), batch[0].nonce),
        "other noise": (changed(pow(2, owner.n, square)), batch[0].nonce),
        "one ciphertext too many": ([*rows[0], rows[0][0]], batch[0].nonce),
        "zero": ([b"", *rows[0][1:]], batch[0].nonce),
    }
    _, valid = owner.decrypt_vec_batch([row for row, _ in cases.values()], [nonce for _, nonce in cases.values()])
    assert dict(zip(cases, valid.tolist(), strict=True)) == {name: name == "as stored" for name in cases}


def test_no_rows_give_no_vectors() -> None:
    bits, valid = client("paillier", 256, 8).decrypt_vec_batch([], [])
    assert (bits.shape, valid.shape) == ((0, 8), (0,))


@pytest.mark.parametrize("embed_len", [1, 4, 5, 256, 322, 600])
def test_decoding_takes_what_encoding_gives_and_no_sum(embed_len: int) -> None:
    encoding = VectorEncoding(embed_len, 256, client("paillier", 256, embed_len)._encoding.base)
    ones = encoding.encode(np.ones((1, embed_len), dtype=np.uint8))
    packed, valid = encoding.vectors(ones, None)
    assert valid.all()
    assert encoding.unpack(packed).all()
    width = max(part.shape[1] for part in ones) + 1
    values = [2 * int.from_bytes(part.tobytes(), "little") for part in ones]
    sums = [np.frombuffer(value.to_bytes(width, "little"), dtype=np.uint8).reshape(1, width) for value in values]
    assert not encoding.vectors(sums, None)[1].any()
