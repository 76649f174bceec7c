"""Encrypt, let the service compute, read: every length, both schemes, and the bounds of one-prime decryption."""

import inspect

import numpy as np
import pytest

from support import reference_paillier as reference
from support.crypto_support import (
    SCHEMES,
    Client,
    answers,
    client,
    first_prime_from,
    generated,
    hamming,
    nonces_of,
    number,
    random_vectors,
    reference_key,
    smallest_sides,
    with_sides,
)
from xtrace_sdk.errors import InvalidArgument, InvalidContext
from xtrace_sdk.x_vec.schemes.paillier.encoding import choose_base
from xtrace_sdk.x_vec.schemes.paillier.full_noise import PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys

LENGTHS = (1, 6, 512, 513, 1023, 1024, 1025, 1291, 1292, 1536, 4096)


def check(owner: Client, count: int) -> None:
    vectors = random_vectors(count, owner.embed_len)
    vectors[0] = 1
    batch = owner.encrypt_vec_batch(vectors)
    for query_vector in (vectors[-1], np.ones_like(vectors[0])):
        query = owner.encrypt_query(query_vector)
        rows = answers(owner, batch, query)
        expected = hamming(vectors, query_vector)
        assert owner.decode_hamming_client_batch(rows, nonces_of(batch), query).tolist() == expected
        confirmed, valid = owner.confirm_distances(rows, nonces_of(batch), query)
        assert valid.all()
        assert confirmed.tolist() == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", LENGTHS)
def test_distances_come_back_at_every_length(scheme: str, embed_len: int) -> None:
    check(client(scheme, 256, embed_len), 3)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", [1, 512, 513, 1023, 1024, 1291, 1292, 1536])
def test_distances_come_back_with_the_primes_that_protect(scheme: str, embed_len: int) -> None:
    check(client(scheme, 1024, embed_len), 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_answer_whose_numbers_are_all_small_is_read(scheme: str) -> None:
    owner, vectors = client(scheme, 256, 6), random_vectors(1, 6)
    batch = owner.encrypt_vec_batch(vectors)
    width = ((owner.n**2).bit_length() + 7) // 8
    while True:  # once in about a hundred queries
        query = owner.encrypt_query(vectors[0])
        ((product,),) = answers(owner, batch, query)
        if number(product) >> 8 * (width - 1) == 0:
            break
    narrow = np.frombuffer(product[: width - 1], np.uint8).reshape(1, 1, width - 1)
    assert owner.decode_hamming_client_batch(narrow, nonces_of(batch), query).tolist() == [0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embed_len", [6, 300, 600])
def test_reference_reads_what_the_product_writes_and_sums(scheme: str, embed_len: int) -> None:
    owner = client(scheme, 256, embed_len)
    key, base = reference_key(owner), choose_base(embed_len, 256)
    vectors = random_vectors(2, embed_len)
    index = owner.encrypt_vec_one(vectors[0])
    assert list(index) == reference.encrypt_vector(key, vectors[0].tolist(), index.nonce, 256, base)
    query = owner.encrypt_query(vectors[1])
    sums = [key.decrypt(number(product)) for product in answers(owner, [index], query)[0]]
    pairs = zip(*(reference.messages(v.tolist(), 256, base) for v in vectors), strict=True)
    assert sums == [a + b for a, b in pairs]
    assert [reference.distance(sums, base)] == hamming(vectors[:1], vectors[1])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("key_len", [256, 512])
def test_all_ones_with_all_ones_at_the_bounds_under_the_smallest_primes(scheme: str, key_len: int) -> None:
    half = key_len // 2
    sides = smallest_sides(scheme, key_len)
    for width in (1, half - 1, half, half + 1, key_len - 2, key_len - 1):
        owner = with_sides(generated(scheme, key_len), sides, width, "base4")
        assert owner._encoding.widths == [width]
        assert owner._one_prime == (width <= half)  # 2(4^w − 1)/3 is below 3/4 of 2^key_len up to w = key_len/2
        ones = np.ones((1, width), dtype=np.uint8)
        for vector, query_vector, distance in ((ones, ones, 0), (ones, 0 * ones, width), (0 * ones, 0 * ones, 0)):
            batch, query = owner.encrypt_vec_batch(vector), owner.encrypt_query(query_vector[0])
            rows = answers(owner, batch, query)
            assert owner.decode_hamming_client_one(rows[0], batch[0].nonce, query) == distance
            confirmed, valid = owner.confirm_distances(rows, nonces_of(batch), query)
            assert (confirmed.tolist(), valid.tolist()) == ([distance], [True])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_twos_fit_in_base_3_under_the_smallest_primes(scheme: str) -> None:
    longest = max(d for d in range(256, 512) if choose_base(d, 256) == "base3")
    owner = with_sides(generated(scheme, 256), smallest_sides(scheme, 256), longest)
    ones = np.ones((1, longest), dtype=np.uint8)
    batch, query = owner.encrypt_vec_batch(ones), owner.encrypt_query(ones[0])
    rows = answers(owner, batch, query)
    assert reference_key(owner).decrypt(number(rows[0][0])) == 3**longest - 1
    assert owner.decode_hamming_client_batch(rows, nonces_of(batch), query).tolist() == [0]


def test_one_prime_is_used_by_the_actual_prime_not_by_the_key_length() -> None:
    # Primes with only their top bit set are below 2(4^(key_len/2) − 1)/3.
    p = first_prime_from((1 << 511) + 1)
    q = first_prime_from((1 << 512) - (1 << 400) + 1)
    for width, one_prime in ((255, True), (256, False)):
        owner = PaillierClient.from_primes(p, q, NoiseKeys.generate(), width, 512, "base4")
        assert owner._one_prime == one_prime
        other_way = PaillierClient.from_primes(q, p, NoiseKeys.generate(), width, 512, "base4")
        assert other_way._one_prime
        check(owner, 2)
        check(other_way, 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_base_3_never_uses_one_prime(scheme: str) -> None:
    for embed_len in (256, 300, 322):
        assert not client(scheme, 256, embed_len)._one_prime


def test_primes_that_do_not_hold_the_vectors_are_refused() -> None:
    small = first_prime_from((1 << 254) + 1)
    right = first_prime_from((3 << 254) + 1)
    with pytest.raises(InvalidArgument, match="256 bits"):
        PaillierClient.from_primes(small, right, NoiseKeys.generate(), 8, 256, "base4")
    lowest = first_prime_from((1 << 255) + 1)
    next_one = first_prime_from(lowest + 2)  # the product of these two is below 3^322
    with pytest.raises(InvalidArgument, match="too small for an encoded vector"):
        PaillierClient.from_primes(lowest, next_one, NoiseKeys.generate(), 322, 256, "base3")


@pytest.mark.parametrize("scheme", SCHEMES)
class TestSavedKeys:
    def test_a_saved_key_reads_what_the_first_wrote(self, scheme: str) -> None:
        first = client(scheme, 256, 40)
        second = type(first).load(first.config(), first.secrets())
        vectors = random_vectors(3, 40)
        batch, query = first.encrypt_vec_batch(vectors), second.encrypt_query(vectors[0])
        rows = answers(second, batch, query)
        assert second.decode_hamming_client_batch(rows, nonces_of(batch), query).tolist() == hamming(
            vectors, vectors[0]
        )
        assert second.public_key() == first.public_key() == {"n": str(first.n)}

    def test_a_secret_that_lacks_or_garbles_a_value_is_no_context(self, scheme: str) -> None:
        first = client(scheme, 256, 40)
        for name in first.secrets():
            for wrong in (None, "", "zz", "0", "1"):
                secret = first.secrets() | ({name: wrong} if wrong is not None else {})
                if wrong is None:
                    del secret[name]
                with pytest.raises(InvalidContext):
                    type(first).load(first.config(), secret)

    def test_a_config_that_does_not_fit_is_no_context(self, scheme: str) -> None:
        first = client(scheme, 256, 40)
        for change in (
            {"embed_len": 0},
            {"embed_len": "40"},
            {"embed_len": 10**9},
            {"encoding": "base3"},
            {"encoding": "base5"},
            {"key_len": 512},
            {"key_len": 254},
        ):
            with pytest.raises(InvalidContext):
                type(first).load(first.config() | change, first.secrets())

    def test_both_primes_alike_are_no_context(self, scheme: str) -> None:
        first = client(scheme, 256, 40)
        with pytest.raises(InvalidContext):
            type(first).load(first.config(), first.secrets() | {"q": first.secrets()["p"]})


@pytest.mark.parametrize("scheme", SCHEMES)
class TestEncryptedIndexes:
    def test_the_same_vector_never_looks_the_same_twice(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        batch = owner.encrypt_vec_batch(np.zeros((20, 600), dtype=np.uint8))
        assert len({index.nonce for index in batch}) == 20
        assert len({ciphertext for index in batch for ciphertext in index}) == 60

    def test_one_vector_is_a_sequence_of_integers_with_a_nonce(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        index = owner.encrypt_vec_one([0, 1] * 300)
        assert len(index) == 3
        assert len(index.nonce) == 30
        assert all(0 < ciphertext < owner.n**2 for ciphertext in index)
        assert index[:2] == [index[0], index[1]]
        assert index[-1] == list(index)[2]
        assert [number(data) for data in index.ciphertexts()] == list(index)
        with pytest.raises(IndexError):
            index[3]

    def test_a_batch_is_a_sequence_of_them(self, scheme: str) -> None:
        batch = client(scheme, 256, 600).encrypt_vec_batch(random_vectors(4, 600))
        assert [list(index) for index in batch[1:3]] == [list(batch[1]), list(batch[2])]
        assert batch[-1] == batch[3]
        assert batch[0] != batch[1]
        with pytest.raises(IndexError):
            batch[4]

    def test_integers_and_bytes_are_read_alike(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        vectors = random_vectors(2, 600)
        batch, query = owner.encrypt_vec_batch(vectors), owner.encrypt_query(vectors[0])
        rows = answers(owner, batch, query)
        as_integers = [[number(ciphertext) for ciphertext in row] for row in rows]
        expected = hamming(vectors, vectors[0])
        assert owner.decode_hamming_client_batch(rows, nonces_of(batch), query).tolist() == expected
        assert owner.decode_hamming_client_batch(as_integers, nonces_of(batch), query).tolist() == expected

    def test_arrays_are_read_like_sequences(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        vectors = random_vectors(5, 600)
        batch, query = owner.encrypt_vec_batch(vectors), owner.encrypt_query(vectors[0])
        rows = answers(owner, batch, query)
        padded = b"".join([bytes(one).ljust(batch.rows.shape[2], b"\0") for row in rows for one in row])
        array = np.frombuffer(padded, dtype=np.uint8).reshape(batch.rows.shape)
        distances, valid = owner.read_distances(array, batch.nonces, query)
        assert valid.all()
        assert distances.tolist() == hamming(vectors, vectors[0])
        assert not owner.read_distances(array[:, :2], batch.nonces, query)[1].any()
        assert not owner.read_distances(array[:, :, :-1], batch.nonces, query)[1].any()
        assert not owner.read_distances(array, batch.nonces[:, :13], query)[1].any()
        assert not owner.read_distances(np.full_like(array, 255), batch.nonces, query)[1].any()
        assert not owner.read_distances(np.zeros_like(array), batch.nonces, query)[1].any()

    def test_an_empty_batch_is_encrypted_and_read(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        assert len(owner.encrypt_vec_batch([])) == 0
        assert len(owner.encrypt_vec_batch(np.empty((0, 600)))) == 0
        assert owner.decode_hamming_client_batch([], [], owner.encrypt_query([1] * 600)).tolist() == []

    def test_two_queries_of_one_vector_share_nothing(self, scheme: str) -> None:
        owner = client(scheme, 256, 600)
        first, second = (owner.encrypt_query([1] * 600) for _ in range(2))
        assert not set(first.ciphertexts) & set(second.ciphertexts)


def test_no_public_call_takes_a_nonce_to_encrypt_a_vector_with() -> None:
    for scheme in SCHEMES:
        owner = generated(scheme, 256)
        for call in (owner.encrypt_vec_one, owner.encrypt_vec_batch, owner.encrypt_query):
            assert len(inspect.signature(call).parameters) == 1
