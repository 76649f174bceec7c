"""Ciphertexts tell nothing about their messages, as far as counting can show it.

Randomness comes from the system, so a statistic can be unlucky: each has a bound that good ciphertexts pass but with a
probability below 2^-60 (Hoeffding's inequality, which holds for every distribution), and every kind of defect that it
is for is planted here and found. What no statistic can show, that there is no other defect, follows from Paillier's
assumption (docs/security.md).

In both schemes g = 1 + n, and a ciphertext modulo n is its noise alone. So the Jacobi symbol modulo n, which everybody
can compute, is the noise's: for `paillier` the symbol of r^n is that of r, 1 or -1 with equal probability; for
`paillier_lookup` noise has odd order modulo both primes, is therefore a square, and the symbol is always 1. In neither
does it depend on the message.
"""

import secrets
from collections.abc import Callable
from math import gcd, log, sqrt

import numpy as np
import pytest
from gmpy2 import powmod
from numpy.typing import NDArray

from support.crypto_support import SCHEMES, Client, generated, nonces_of
from xtrace_sdk.x_vec.upkeep.audit.samples import (
    FALSE_ALARM,
    biased_bits,
    enough_for_bias,
    jacobi_symbols,
    shared_noise,
)

KEY_LEN = 256
DIM = 8
COUNT = 4000
"""Ciphertexts of each message."""
SMALL_PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31)

Encrypt = Callable[[int, int], list[int]]
"""From a message, all bits 0 or all 1, and a number of ciphertexts to as many of it."""


def good(owner: Client) -> Encrypt:
    def encrypt(bit: int, count: int) -> list[int]:
        return [index[0] for index in owner.encrypt_vec_batch(np.full((count, DIM), bit, dtype=np.uint8))]

    return encrypt


def planted(owner: Client, noise: Callable[[int], int]) -> Encrypt:
    """Encryption of the same messages with another noise; the function gets the message's bit."""
    n, messages = owner.n, (0, (4**DIM - 1) // 3)

    def encrypt(bit: int, count: int) -> list[int]:
        return [(1 + messages[bit] * n) * noise(bit) % n**2 for _ in range(count)]

    return encrypt


# The statistics: what two samples of as many ciphertexts differ by, each as a list of frequencies that belong together


def bits_of(ciphertexts: list[int], owner: Client) -> list[NDArray[np.float64]]:
    """How often each bit of the bytes that travel is set."""
    width = (owner.n**2).bit_length() // 8 + 1
    data = b"".join(value.to_bytes(width, "little") for value in ciphertexts)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(len(ciphertexts), width)
    return [np.unpackbits(rows, axis=1).mean(axis=0)]


def bytes_of(ciphertexts: list[int], owner: Client) -> list[NDArray[np.float64]]:
    """How often each value of a byte occurs, at each of the sixteen lowest and highest positions."""
    width = (owner.n**2).bit_length() // 8
    data = b"".join((value % 2 ** (8 * width)).to_bytes(width, "little") for value in ciphertexts)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(len(ciphertexts), width)
    positions = (*range(16), *range(-16, 0))
    return [np.bincount(rows[:, position], minlength=256) / len(rows) for position in positions]


def residues_of(ciphertexts: list[int], owner: Client) -> list[NDArray[np.float64]]:
    """How often each residue modulo each small prime occurs, of the ciphertexts and of what they are modulo n."""
    values = [ciphertexts, [value % owner.n for value in ciphertexts]]
    return [
        np.bincount([value % prime for value in some], minlength=prime) / len(some)
        for some in values
        for prime in SMALL_PRIMES
    ]


def jacobi_of(ciphertexts: list[int], owner: Client) -> list[NDArray[np.float64]]:
    """How often the Jacobi symbol modulo n is 1."""
    return [np.array([jacobi_symbols(ciphertexts, owner.n).count(1) / len(ciphertexts)])]


STATISTICS = (bits_of, bytes_of, residues_of, jacobi_of)


def told_apart(encrypt: Encrypt, owner: Client) -> set[str]:
    """The statistics by which as many ciphertexts of all zeros and of all ones can be told apart.

    Two frequencies of one event in two samples of m differ by more than t with probability 2·exp(−m·t²) at most.
    """
    zeros, ones = encrypt(0, COUNT), encrypt(1, COUNT)
    found = set()
    for statistic in STATISTICS:
        one, other = np.concatenate(statistic(zeros, owner)), np.concatenate(statistic(ones, owner))
        bound = sqrt(log(2 * one.size / FALSE_ALARM) / COUNT)
        if np.abs(one - other).max() > bound:
            found.add(statistic.__name__)
    return found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_all_zeros_and_all_ones_cannot_be_told_apart(scheme: str) -> None:
    owner = generated(scheme, KEY_LEN)
    assert told_apart(good(owner), owner) == set()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_jacobi_symbols_are_those_of_the_noise_whatever_the_message_is(scheme: str) -> None:
    owner = generated(scheme, KEY_LEN)
    for bit in (0, 1):
        symbols = jacobi_symbols(good(owner)(bit, COUNT), owner.n)
        if scheme == "paillier_lookup":
            assert set(symbols) == {1}
        else:
            assert set(symbols) == {1, -1}
            assert abs(symbols.count(1) - COUNT / 2) < sqrt(COUNT * log(2 / FALSE_ALARM) / 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_noise_is_uniform_in_every_bit(scheme: str) -> None:
    owner = generated(scheme, KEY_LEN)
    residues = [value % owner.n for value in good(owner)(1, COUNT)]
    assert biased_bits(residues, owner.n.bit_length() - 64) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equal_vectors_share_nothing(scheme: str) -> None:
    owner = generated(scheme, KEY_LEN)
    batch = owner.encrypt_vec_batch(np.ones((200, DIM), dtype=np.uint8))
    values = [index[0] for index in batch]
    assert shared_noise([value % owner.n for value in values], owner.n) == 1
    assert gcd(values[0] - values[1], owner.n) == 1
    assert len(set(nonces_of(batch))) == len(batch)
    assert biased_bits([int.from_bytes(nonce or b"", "big") for nonce in nonces_of(batch)], 8 * 14) == []
    # Equal bytes at equal positions are as rare as among random ones: on average one of 256.
    rows = batch.rows[:, 0, : (owner.n**2).bit_length() // 8 - 1]
    pairs = rows[::2] == rows[1::2]
    deviation = sqrt(log(2 / FALSE_ALARM) / (2 * pairs.size))
    assert abs(pairs.mean() - 1 / 256) < deviation
    assert not (rows[::2, :16] == rows[1::2, :16]).all(axis=1).any()


def test_a_vector_encrypted_again_and_a_query_share_nothing_either() -> None:
    for scheme in SCHEMES:
        owner = generated(scheme, KEY_LEN)
        vector = [1, 0] * (DIM // 2)
        first, second = owner.encrypt_vec_one(vector), owner.encrypt_vec_one(vector)
        query = int.from_bytes(owner.encrypt_query(vector).ciphertexts[0], "little")
        assert first.nonce != second.nonce
        assert shared_noise([value % owner.n for value in (first[0], second[0], query)], owner.n) == 1


# The statistics can fail: planted defects


def full_noise(owner: Client) -> int:
    return int(powmod(secrets.randbelow(owner.n), owner.n, owner.n**2))


def noise_with(owner: Client, wanted: Callable[[int, int], bool]) -> Callable[[int], int]:
    """Noise of which only such is taken as is wanted for the bit; products of some, because many are thrown away.

    All of 64 have the same Jacobi symbol, which the products would share, with probability 2^-63.
    """
    some, square = [full_noise(owner) for _ in range(64)], owner.n**2
    state = some[0]

    def noise(bit: int) -> int:
        nonlocal state
        state = state * secrets.choice(some) % square
        while not wanted(state % owner.n, bit):
            state = state * secrets.choice(some) % square
        return state

    return noise


@pytest.fixture(scope="module")
def owner() -> Client:
    return generated("paillier", KEY_LEN)


def test_good_noise_in_the_planted_encryption_is_good(owner: Client) -> None:
    assert told_apart(planted(owner, lambda _: full_noise(owner)), owner) == set()


def test_no_noise_is_told_apart(owner: Client) -> None:
    assert told_apart(planted(owner, lambda _: 1), owner) >= {"bits_of", "bytes_of", "residues_of"}


def test_reused_noise_is_told_apart(owner: Client) -> None:
    noise = full_noise(owner)
    assert told_apart(planted(owner, lambda _: noise), owner) >= {"bits_of", "bytes_of"}
    values = planted(owner, lambda _: noise)(1, 2)
    assert shared_noise([value % owner.n for value in values], owner.n) == owner.n


def test_few_different_noises_are_told_apart_or_shared(owner: Client) -> None:
    """16 bits of noise: 4,000 ciphertexts have some noise twice, but with a probability below 2^-100."""
    base = full_noise(owner)
    encrypt = planted(owner, lambda _: int(powmod(base, secrets.randbits(16), owner.n**2)))
    assert shared_noise([value % owner.n for value in encrypt(1, COUNT)], owner.n) == owner.n


def test_a_residue_whose_parity_shows_the_message_is_told_apart(owner: Client) -> None:
    """Always even for zeros: what is modulo n says it, at once."""
    encrypt = planted(owner, noise_with(owner, lambda residue, bit: residue % 2 == bit))
    residues = [[value % owner.n for value in encrypt(bit, enough_for_bias(448))] for bit in (0, 1)]
    assert [biased_bits(some, 448)[:1] for some in residues] == [[0], [0]]


def test_a_jacobi_symbol_that_shows_the_message_is_told_apart(owner: Client) -> None:
    encrypt = planted(
        owner, noise_with(owner, lambda residue, bit: jacobi_symbols([residue], owner.n) == [1 - 2 * bit])
    )
    assert told_apart(encrypt, owner) == {"jacobi_of"}


def test_a_ciphertext_whose_residue_modulo_a_small_prime_shows_the_message_is_told_apart(owner: Client) -> None:
    encrypt = planted(owner, noise_with(owner, lambda residue, bit: residue % 3 == bit))
    assert told_apart(encrypt, owner) == {"residues_of"}
