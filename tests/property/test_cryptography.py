"""Round trips and homomorphic sums for any vectors, lengths and key lengths; any change is noticed.

Hypothesis prints the failing example and how to run it again.
"""

import base64
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import reference_paillier as reference
from support.crypto_support import SCHEMES, answers, client, number, random_vectors, reference_key, show_keys
from xtrace_sdk.errors import ContentTampered, InvalidArgument, InvalidContext, InvalidRows, WrongKey
from xtrace_sdk.x_vec.chunks.cipher import ContentCipher
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey, _encode
from xtrace_sdk.x_vec.keys.sealed_secret import Envelope, Slot
from xtrace_sdk.x_vec.schemes.paillier.encoding import VectorEncoding, choose_base


@pytest.fixture(autouse=True)
def keys_shown_on_failure() -> None:
    show_keys()


KEY_LENGTHS = (256, 320, 384, 448, 512)
HEDGE = Hedge(bytes(32))
schemes = st.sampled_from(SCHEMES)
key_lengths = st.sampled_from(KEY_LENGTHS)
lengths = st.one_of(st.integers(1, 40), st.integers(120, 330), st.integers(500, 700), st.integers(1, 1600))
keys = st.binary(min_size=32, max_size=32)
nonces = st.none() | st.binary(min_size=30, max_size=30)


def vectors(data: st.DataObject, count: int, embed_len: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Mostly ones, mostly zeros or anything between."""
    packed = data.draw(st.binary(min_size=count * embed_len // 8 + 1, max_size=count * embed_len // 8 + 1))
    bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))[: count * embed_len]
    return bits.reshape(count, embed_len)


@given(st.data(), schemes, key_lengths, lengths)
@settings(max_examples=80, deadline=None)
def test_the_service_sums_and_the_client_reads_hamming_distances(
    data: st.DataObject, scheme: str, key_len: int, embed_len: int
) -> None:
    owner = client(scheme, key_len, embed_len)
    *stored, query_vector = vectors(data, 4, embed_len)
    batch, query = owner.encrypt_vec_batch(np.array(stored)), owner.encrypt_query(query_vector)
    rows = answers(owner, batch, query)
    expected = [int((vector != query_vector).sum()) for vector in stored]
    nonces = [index.nonce for index in batch]
    assert owner.decode_hamming_client_batch(rows, nonces, query).tolist() == expected
    one_prime, valid = owner.read_distances(rows, nonces, query)
    both_primes, confirmed = owner.confirm_distances(rows, nonces, query)
    assert valid.all()
    assert confirmed.all()
    assert one_prime.tolist() == both_primes.tolist() == expected


@given(st.data(), schemes, lengths)
@settings(max_examples=25, deadline=None)
def test_the_textbook_decrypts_the_sums(data: st.DataObject, scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    key, base = reference_key(owner), choose_base(embed_len, 256)
    vector, query_vector = vectors(data, 2, embed_len)
    query = owner.encrypt_query(query_vector)
    row = answers(owner, [owner.encrypt_vec_one(vector)], query)[0]
    expected = [
        a + b
        for a, b in zip(
            reference.messages(vector.tolist(), 256, base),
            reference.messages(query_vector.tolist(), 256, base),
            strict=True,
        )
    ]
    assert [key.decrypt(number(product)) for product in row] == expected


@given(st.data(), key_lengths, lengths)
@settings(max_examples=100, deadline=None)
def test_encodings_are_those_of_the_reference(data: st.DataObject, key_len: int, embed_len: int) -> None:
    encoding = VectorEncoding(embed_len, key_len, choose_base(embed_len, key_len))
    vector = vectors(data, 1, embed_len)
    columns = encoding.encode(vector)
    got = [number(rows[0].tobytes()) for rows in columns]
    assert got == reference.messages(vector[0].tolist(), key_len, encoding.base)


@given(st.integers(0, 1 << 520), st.integers(1, 255))
@settings(max_examples=300, deadline=None)
def test_base_4_accepts_exactly_the_sums_of_two_vectors(total: int, width: int) -> None:
    check_base_4(total, width)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=255), st.integers(0, 254), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_base_4_accepts_exactly_the_sums_of_two_vectors_near_valid_ones(
    digits: list[int], place: int, digit: int
) -> None:
    width = len(digits)
    digits = digits + [0] * (place + 1 - width)
    digits[place] = digit
    check_base_4(sum(value << 2 * i for i, value in enumerate(digits)), width)


def check_base_4(total: int, width: int) -> None:
    encoding = VectorEncoding(width, 256, "base4")
    rows = np.frombuffer(total.to_bytes(70, "little"), dtype=np.uint8).reshape(1, 70)
    distances, valid = encoding.distances([rows])
    assert bool(valid[0]) == reference.is_sum_of_two(total, width, "base4")
    if valid[0]:
        assert int(distances[0]) == reference.distance([total], "base4")


@given(st.data(), schemes, st.sampled_from([6, 128, 256, 300, 600]))
@settings(max_examples=60, deadline=None)
def test_any_other_number_in_a_row_is_noticed(data: st.DataObject, scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    vector = random_vectors(1, embed_len)
    index, query = owner.encrypt_vec_one(vector[0]), owner.encrypt_query(vector[0])
    row = [number(ciphertext) for ciphertext in answers(owner, [index], query)[0]]
    place = data.draw(st.integers(0, len(row) - 1))
    mask = data.draw(st.integers(1, 1 << 1023) | st.integers(0, 1023).map(lambda bit: 1 << bit))
    row[place] ^= mask
    with pytest.raises(InvalidRows):
        owner.decode_hamming_client_one(row, index.nonce, query)


@given(st.data(), schemes, st.sampled_from([6, 128, 300, 600]))
@settings(max_examples=60, deadline=None)
def test_whatever_is_added_to_a_sum_is_noticed(data: st.DataObject, scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    vector = random_vectors(1, embed_len)
    index, query = owner.encrypt_vec_one(vector[0]), owner.encrypt_query(vector[0])
    row = [number(ciphertext) for ciphertext in answers(owner, [index], query)[0]]
    t = data.draw(st.integers(1, owner.n - 1) | st.integers(1, 1 << 2 * embed_len) | st.integers(1, 20))
    row[0] = row[0] * (1 + t * owner.n) % owner.n**2
    _, valid = owner.confirm_distances([row], [index.nonce], query)
    assert not valid[0]


@given(schemes, st.binary(max_size=40) | st.binary(min_size=30, max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_other_nonce_reads_a_row(scheme: str, nonce: bytes) -> None:
    owner = client(scheme, 256, 6)
    index, query = owner.encrypt_vec_one([1] * 6), owner.encrypt_query([0] * 6)
    row = answers(owner, [index], query)[0]
    with pytest.raises(InvalidRows):
        owner.decode_hamming_client_one(row, nonce, query)


@given(schemes, st.lists(st.integers(-(1 << 1100), 1 << 1100) | st.binary(max_size=140), max_size=5))
@settings(max_examples=60, deadline=None)
def test_no_garbage_is_read_and_none_breaks_the_reading(scheme: str, row: list[int | bytes]) -> None:
    owner = client(scheme, 256, 600)
    query = owner.encrypt_query([1] * 600)
    _, valid = owner.read_distances([row, row], [bytes(30), None], query)
    assert not valid.any()


@given(keys, st.text(st.characters(codec="utf-8")) | st.binary(), nonces)
@settings(max_examples=100, deadline=None)
def test_content_comes_back(key: bytes, content: str | bytes, nonce: bytes | None) -> None:
    cipher = ContentCipher(key, HEDGE)
    plaintext = content.encode() if isinstance(content, str) else content
    stored = cipher.encrypt(content, nonce)
    assert cipher.decrypt_bytes(stored, nonce) == plaintext
    sealed = base64.b64decode(stored)
    own_key = reference.content_key(key, nonce or b"")
    assert sealed == reference.sealed(own_key, sealed[:16], plaintext, b"xtrace/content/2" + (nonce or b""))


@given(keys, st.binary(max_size=50), nonces, st.data())
@settings(max_examples=100, deadline=None)
def test_changed_content_is_noticed(key: bytes, content: bytes, nonce: bytes | None, data: st.DataObject) -> None:
    cipher = ContentCipher(key, HEDGE)
    sealed = bytearray(base64.b64decode(cipher.encrypt(content, nonce)))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ContentTampered):
        cipher.decrypt_bytes(base64.b64encode(sealed).decode(), nonce)


@given(st.text() | st.binary(), nonces)
@settings(max_examples=100, deadline=None)
def test_garbage_is_no_content(garbage: str | bytes, nonce: bytes | None) -> None:
    with pytest.raises(ContentTampered):
        ContentCipher(bytes(32), HEDGE).decrypt_bytes(garbage, nonce)


@given(keys, keys, st.binary(max_size=200), st.binary(max_size=50), st.binary(max_size=50))
@settings(max_examples=100, deadline=None)
def test_a_sealed_secret_opens_only_under_its_key_and_with_what_it_is_bound_to(
    key: bytes, other_key: bytes, secret: bytes, bound_to: bytes, other: bytes
) -> None:
    envelope = Envelope.new(key, bound_to)
    stored = envelope.seal(secret)
    sealed = base64.b64decode(stored)
    assert Envelope.open(Slot.PROVIDER, key, stored, bound_to)[1] == secret
    assert sealed == reference.sealed_secret(envelope._key, sealed[85:101], secret, bound_to, [(key, sealed[21:37])])
    if other_key != key:
        with pytest.raises(WrongKey):
            Envelope.open(Slot.PROVIDER, other_key, stored, bound_to)
    if other != bound_to:
        with pytest.raises(InvalidContext):
            Envelope.open(Slot.PROVIDER, key, stored, other)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 23), st.integers(0, 23))
@settings(max_examples=100, deadline=None)
def test_a_recovery_key_is_its_words_and_exchanged_words_are_never_another_way_to_write_it(
    key: bytes, first: int, second: int
) -> None:
    words = _encode(key)
    assert RecoveryKey(" ".join(words)).key() == key
    words[first], words[second] = words[second], words[first]
    with suppress(InvalidArgument):  # the checksum notices 255 of 256
        assert (RecoveryKey(" ".join(words)).key() == key) == (words == _encode(key))
