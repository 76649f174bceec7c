"""What keys are made of: refused parameters, the shape of the primes, the order of the noise, and refused vectors."""

from typing import Any

import numpy as np
import pytest

from support import reference_paillier as reference
from support.crypto_support import CLIENTS as BY_NAME
from support.crypto_support import SCHEMES, client, generated
from xtrace_sdk.errors import InvalidArgument, InvalidContext, InvalidVector, WeakParameters
from xtrace_sdk.x_vec.keys.hedging import Hedge
from xtrace_sdk.x_vec.schemes.bits import checked_bits
from xtrace_sdk.x_vec.schemes.paillier import full_noise as paillier
from xtrace_sdk.x_vec.schemes.paillier import lookup as paillier_lookup
from xtrace_sdk.x_vec.schemes.paillier.full_noise import PaillierClient
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient, SubgroupPrime, default_alpha_len
from xtrace_sdk.x_vec.schemes.paillier.noise import NoiseKeys
from xtrace_sdk.x_vec.schemes.paillier.primes import (
    far_apart,
    prime_of_bits,
    prime_with_subgroup,
    prime_with_two_top_bits,
)


@pytest.mark.parametrize("scheme", SCHEMES)
class TestRefusedLengths:
    @pytest.mark.parametrize("key_len", [-1024, 0, 2, 512, 1022, 1023, 1025, 4097, 4098, 8192])
    def test_primes_shorter_than_1024_bits_or_of_odd_length_are_refused(self, scheme: str, key_len: int) -> None:
        with pytest.raises(WeakParameters, match=f"key_len is {key_len}"):
            BY_NAME[scheme].generate(8, key_len)

    @pytest.mark.parametrize("key_len", [0, 128, 254, 255, 257, 4098])
    def test_what_cannot_work_is_refused_even_where_weakness_is_allowed(self, scheme: str, key_len: int) -> None:
        with pytest.raises(WeakParameters):
            BY_NAME[scheme].generate(8, key_len, insecure_allow_weak_parameters=True)

    @pytest.mark.parametrize("embed_len", [-1, 0, 4097, 10**12])
    def test_vectors_of_unreasonable_length_are_refused_at_once(self, scheme: str, embed_len: int) -> None:
        with pytest.raises(InvalidArgument, match="4096"):
            BY_NAME[scheme].generate(embed_len, 1024)


@pytest.mark.parametrize("alpha_len", [-448, 0, 2, 50, 256, 446, 447, 449, 2002, 4096])
@pytest.mark.parametrize("weak", [False, True])
def test_subgroups_that_can_be_searched_are_always_refused(alpha_len: int, weak: bool) -> None:
    with pytest.raises(WeakParameters, match=f"alpha_len is {alpha_len}"):
        PaillierLookupClient.generate(8, 1024, alpha_len, insecure_allow_weak_parameters=weak)


def test_alpha_len_follows_from_key_len() -> None:
    expected = {1024: 512, 1536: 512, 2048: 640, 3072: 768, 4096: 768}
    assert {key_len: default_alpha_len(key_len) for key_len in expected} == expected


@pytest.mark.parametrize("alpha_len", [448, 450, 464])
def test_alpha_len_is_kept_and_saved(alpha_len: int) -> None:
    owner = PaillierLookupClient.generate(8, 256, alpha_len, insecure_allow_weak_parameters=True)
    assert owner.alpha_len == alpha_len
    assert owner.config() == {"embed_len": 8, "key_len": 256, "encoding": "base4", "alpha_len": alpha_len}


def check_primes(p: int, q: int, key_len: int) -> None:
    for prime in (p, q):
        assert reference.is_prime(prime)
        assert prime.bit_length() == key_len
        assert prime >> (key_len - 2) == 0b11
    assert abs(p - q) > 2 ** (key_len - 100)
    assert (p * q).bit_length() == 2 * key_len


@pytest.mark.parametrize("key_len", [256, 258, 512, 1024])
def test_paillier_primes_have_the_shape_that_the_design_gives(key_len: int) -> None:
    owner = generated("paillier", key_len)
    p, q = (side.prime for side in owner._sides)
    check_primes(p, q, key_len)


@pytest.mark.parametrize("key_len", [256, 258, 512, 1024])
def test_lookup_primes_orders_and_generators_are_exactly_as_the_design_gives(key_len: int) -> None:
    owner = generated("paillier_lookup", key_len)
    assert isinstance(owner, PaillierLookupClient)
    p, q = owner._subgroups
    check_primes(p.prime, q.prime, key_len)
    assert p.order != q.order
    for side, other in ((p, q), (q, p)):
        assert reference.is_prime(side.order)
        assert side.order.bit_length() == default_alpha_len(key_len) // 2
        assert (side.prime - 1) % (2 * side.order) == 0
        assert (other.prime - 1) % side.order != 0
        # Exactly this order modulo p², and modulo p: nothing of the noise lies in the part that carries messages.
        assert reference.multiplicative_order_is(side.generator, side.order, side.prime**2)
        assert reference.multiplicative_order_is(side.generator, side.order, side.prime)


def test_many_short_lookup_keys_all_have_that_shape() -> None:
    for _ in range(15):
        owner = PaillierLookupClient.generate(8, 256, insecure_allow_weak_parameters=True)
        p, q = owner._subgroups
        check_primes(p.prime, q.prime, 256)
        for side, other in ((p, q), (q, p)):
            assert side.order.bit_length() == 224
            assert (other.prime - 1) % side.order != 0
            assert reference.multiplicative_order_is(side.generator, side.order, side.square)


class TestUnsuitablePrimes:
    """Draws that chance never gives come from stand-ins for the functions that draw; the next draw is an honest one."""

    def generate(self) -> tuple[SubgroupPrime, SubgroupPrime]:
        return PaillierLookupClient.generate(8, 512, insecure_allow_weak_parameters=True)._subgroups

    @pytest.mark.parametrize("place", [0, 1])
    def test_an_order_that_divides_the_other_prime_less_1_is_drawn_again(
        self, monkeypatch: pytest.MonkeyPatch, place: int
    ) -> None:
        orders, primes = list[int](), list[int]()

        def draw_order(bits: int) -> int:
            orders.append(prime_of_bits(bits))
            return orders[-1]

        def draw_prime(bits: int, order: int) -> int:
            both = len(primes) == place
            primes.append(prime_with_subgroup(bits, orders[0] * orders[1] if both else order))
            return primes[-1]

        monkeypatch.setattr(paillier_lookup, "prime_of_bits", draw_order)
        monkeypatch.setattr(paillier_lookup, "prime_with_subgroup", draw_prime)
        p, q = self.generate()
        assert (primes[place] - 1) % orders[1 - place] == 0
        assert [p.prime, q.prime] == primes[2:]

    def test_equal_orders_are_drawn_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        drawn = list[int]()

        def draw_order(bits: int) -> int:
            drawn.append(drawn[0] if len(drawn) == 1 else prime_of_bits(bits))
            return drawn[-1]

        monkeypatch.setattr(paillier_lookup, "prime_of_bits", draw_order)
        p, q = self.generate()
        assert [p.order, q.order] == drawn[2:]

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_primes_too_close_are_drawn_again(self, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
        judged = list[tuple[int, int]]()

        def judge(p: int, q: int, bits: int) -> bool:
            judged.append((p, q))
            return len(judged) > 2 and far_apart(p, q, bits)

        monkeypatch.setattr(paillier_lookup, "far_apart", judge)
        monkeypatch.setattr(paillier, "far_apart", judge)
        owner = BY_NAME[scheme].generate(8, 256, insecure_allow_weak_parameters=True)
        assert len(judged) == 3
        assert tuple(side.prime for side in owner._sides) == judged[-1]


def test_each_key_is_new() -> None:
    for scheme in SCHEMES:
        keys = [BY_NAME[scheme].generate(8, 256, insecure_allow_weak_parameters=True).secrets() for _ in range(3)]
        for name in keys[0]:
            assert len({key[name] for key in keys}) == 3


@pytest.mark.parametrize("bits", [8, 9, 64, 65, 224, 225])
def test_prime_of_bits_has_exactly_those_bits(bits: int) -> None:
    for _ in range(30):
        prime = prime_of_bits(bits)
        assert prime.bit_length() == bits
        assert reference.is_prime(prime)


@pytest.mark.parametrize("bits", [16, 17, 64, 255])
def test_generated_primes_stay_within_their_interval_and_use_all_of_it(bits: int) -> None:
    lowest, top = 3 << (bits - 2), 1 << bits
    found = [prime_with_two_top_bits(bits) for _ in range(60)]
    found_in_subgroup = [prime_with_subgroup(bits, 11) for _ in range(60)]
    assert all(prime % 22 == 1 for prime in found_in_subgroup)
    for primes in (found, found_in_subgroup):
        assert all(lowest <= prime < top and reference.is_prime(prime) for prime in primes)
        middle = (lowest + top) // 2
        assert min(primes) < middle < max(primes)  # wrong once in 2^59 runs


def test_primes_are_far_apart_only_beyond_the_bound() -> None:
    p = 3 << 1022
    bound = 1 << 924
    assert not far_apart(p, p, 1024)
    assert not far_apart(p, p + bound, 1024)
    assert far_apart(p, p + bound + 1, 1024)
    assert far_apart(p + bound + 1, p, 1024)


def test_a_generator_of_another_order_is_refused() -> None:
    side = generated("paillier_lookup", 256)._sides[0]
    assert isinstance(side, SubgroupPrime)
    other = generated("paillier_lookup", 256)._sides[1].prime
    for wrong in (1, 1 + side.square, side.generator + 1, side.prime - 1, side.square - side.generator, 0):
        with pytest.raises(InvalidContext, match="generator"):
            SubgroupPrime(side.prime, other, side.order, wrong)


@pytest.mark.parametrize("lengths", [(31, 32), (32, 33), (0, 32), (32, 0), (16, 16)])
def test_noise_keys_of_another_length_are_refused(lengths: tuple[int, int]) -> None:
    # Found here: HMAC takes an empty key, and a context without K' would have loaded.
    with pytest.raises(ValueError, match="32"):
        NoiseKeys(bytes(lengths[0]), bytes(lengths[1]), Hedge(bytes(32)))


def test_nonces_differ_even_if_the_random_generator_repeats_itself() -> None:
    hedge = Hedge(bytes(range(32)))
    keys = NoiseKeys(bytes(32), bytes(range(32)), hedge)
    packed = np.array([[3], [7], [3]], dtype=np.uint8)
    same = keys._nonces_from(hedge._draw_rows_with(bytes(96), "nonce", packed, 16), packed)
    assert same[0].tobytes() == same[2].tobytes()
    assert same[0, :16].tobytes() != same[1, :16].tobytes()
    assert same[0, 16:].tobytes() != same[1, 16:].tobytes()
    fresh = keys._nonces_from(hedge._draw_rows_with(bytes(range(96)), "nonce", packed, 16), packed)
    assert len({row.tobytes() for row in fresh}) == 3


def test_noise_of_a_batch_is_that_of_each_of_its_vectors() -> None:
    keys = NoiseKeys.generate()
    nonces = keys.nonces(np.eye(7, dtype=np.uint8))
    whole = keys.integers(nonces, 3, 256)
    for i in range(7):
        alone = keys.integers(nonces[i : i + 1], 3, 256)
        for t in range(3):
            assert all(whole[t][side][i].tobytes() == alone[t][side][0].tobytes() for side in (0, 1))


@pytest.mark.parametrize("order_bits", [1, 127, 128, 129, 224, 256, 257, 1024, 4096])
def test_noise_has_128_bits_more_than_the_order(order_bits: int) -> None:
    key, nonce = bytes(range(32)), bytes(range(30))
    keys = NoiseKeys(key, bytes(32), Hedge(bytes(32)))
    rows = np.frombuffer(nonce, dtype=np.uint8).reshape(1, 30)
    got = keys.integers(rows, 3, order_bits)
    for t in range(3):
        for side, counters in enumerate(reference.counters(t, order_bits)):
            data = got[t][side][0].tobytes()
            assert 8 * len(data) >= order_bits + 128
            assert int.from_bytes(data, "little") == reference.integer_at(key, nonce, counters)


LENGTH = 6
BAD_VECTORS: dict[str, Any] = {
    "too short": [0, 1, 0, 1, 0],
    "too long": [0, 1, 0, 1, 0, 1, 1],
    "empty": [],
    "a two": [0, 1, 2, 1, 0, 1],
    "a negative": [0, 1, -1, 1, 0, 1],
    "a half": [0.0, 1.0, 0.5, 1.0, 0.0, 1.0],
    "NaN": [0.0, 1.0, float("nan"), 1.0, 0.0, 1.0],
    "infinity": [0.0, 1.0, float("inf"), 1.0, 0.0, 1.0],
    "256, which is 0 in a byte": [0, 1, 256, 1, 0, 1],
    "a number of many digits": [0, 1, 2**80, 1, 0, 1],
    "strings": ["0", "1", "0", "1", "0", "1"],
    "bytes": b"\0\1\0\1\0\1",
    "a text": "010101",
    "None inside": [0, 1, None, 1, 0, 1],
    "complex": [0j, 1 + 0j, 0j, 1 + 0j, 0j, 1 + 0j],
    "two dimensions": [[0, 1, 0], [1, 0, 1]],
    "three dimensions": np.zeros((1, 1, 6)),
    "ragged": [[0, 1, 0], [1, 0]],
    "None": None,
    "a number": 5,
    "a set": {0, 1},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", BAD_VECTORS)
class TestRefusedVectors:
    def test_by_encrypt_vec_one(self, scheme: str, kind: str) -> None:
        with pytest.raises(InvalidVector):
            client(scheme, 256, LENGTH).encrypt_vec_one(BAD_VECTORS[kind])

    def test_by_encrypt_query(self, scheme: str, kind: str) -> None:
        with pytest.raises(InvalidVector):
            client(scheme, 256, LENGTH).encrypt_query(BAD_VECTORS[kind])

    def test_in_a_batch_with_a_good_one(self, scheme: str, kind: str) -> None:
        with pytest.raises(InvalidVector):
            client(scheme, 256, LENGTH).encrypt_vec_batch([[0, 1, 0, 1, 0, 1], BAD_VECTORS[kind]])


@pytest.mark.parametrize(
    "batch",
    [None, 5, "010101", [0, 1, 0, 1, 0, 1], np.zeros(6), np.zeros((1, 1, 6)), np.zeros((2, 0)), iter([[0] * 6])],
)
def test_what_is_no_batch_of_vectors_is_refused(batch: Any) -> None:
    with pytest.raises(InvalidVector):
        client("paillier_lookup", 256, LENGTH).encrypt_vec_batch(batch)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_zeros_and_ones_of_any_number_type_and_memory_order_are_taken(dtype: str, order: Any) -> None:
    vectors = np.array([[0, 1, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1]])
    bits = checked_bits(np.asarray(vectors, dtype=dtype, order=order), LENGTH)
    assert bits.dtype == np.uint8
    assert bits.flags.c_contiguous
    assert bits.tolist() == vectors.tolist()


def test_no_message_of_a_refused_vector_shows_the_vector() -> None:
    with pytest.raises(InvalidVector) as caught:
        client("paillier", 256, LENGTH).encrypt_vec_one([0, 1, 77123, 1, 0, 1])
    assert "77123" not in str(caught.value)


def test_paillier_refuses_a_length_before_it_looks_for_primes() -> None:
    with pytest.raises(InvalidArgument):
        PaillierClient.generate(5000, 4096)
