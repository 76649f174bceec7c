"""A machine that computes wrongly is noticed before anything it computed leaves.

Faults come in through stand-ins for a side of the key or for the arithmetic; randomness is never touched.
"""

import itertools
import secrets
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from gmpy2 import mpz
from numpy.typing import NDArray

from support.crypto_support import SCHEMES, client, generated, with_sides
from xtrace_core.arithmetic import FixedBaseTable, Rows, as_rows
from xtrace_core.arithmetic.portable import PortableArithmetic, _Table
from xtrace_sdk.errors import FaultDetected
from xtrace_sdk.x_vec.schemes.paillier import lookup as paillier_lookup
from xtrace_sdk.x_vec.schemes.paillier import scheme as homomorphic
from xtrace_sdk.x_vec.schemes.paillier.lookup import SubgroupPrime
from xtrace_sdk.x_vec.schemes.paillier.scheme import PrimeSide


class FaultySide:
    """A side of a key whose noise, as it is computed for encryption, comes out wrong."""

    def __init__(self, side: PrimeSide, fault: Callable[[Rows], Rows]) -> None:
        self._side, self._fault = side, fault
        self.prime, self.square, self.order_bits = side.prime, side.square, side.order_bits
        self.noise_from, self.no_noise = side.noise_from, side.no_noise

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        return self._fault(self._side.encrypt(messages, noise))

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        return self._side.read(products, noise, other)


def flip_a_bit(rows: Rows) -> Rows:
    changed = rows.copy()
    changed[:, 5] ^= 0x10
    return changed


def forget(rows: Rows) -> Rows:
    return np.zeros_like(rows)


class NoiselessSide(FaultySide):
    """Noise 1: the message would travel in clear."""

    def __init__(self, side: PrimeSide) -> None:
        super().__init__(side, lambda rows: rows)

    def encrypt(self, messages: Rows, noise: Rows) -> Rows:
        return super().encrypt(messages, as_rows([self.no_noise()] * len(noise), noise.shape[1]))


FAULTS: dict[str, Callable[[PrimeSide], FaultySide]] = {
    "a bit flips": lambda side: FaultySide(side, flip_a_bit),
    "all is zero": lambda side: FaultySide(side, forget),
    "no noise": NoiselessSide,
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("faulty", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("embed_len", [6, 300, 600])
class TestWrongNoise:
    def test_of_an_index_is_noticed(self, scheme: str, faulty: int, fault: str, embed_len: int) -> None:
        model = client(scheme, 256, embed_len)
        sides = list(model._sides)
        sides[faulty] = FAULTS[fault](sides[faulty])
        broken = with_sides(model, tuple(sides), embed_len)
        with pytest.raises(FaultDetected, match="was not sent"):
            broken.encrypt_vec_batch([[1] * embed_len] * 4)
        with pytest.raises(FaultDetected):
            broken.encrypt_vec_one([0] * embed_len)

    def test_of_a_query_is_noticed(self, scheme: str, faulty: int, fault: str, embed_len: int) -> None:
        model = client(scheme, 256, embed_len)
        sides = list(model._sides)
        sides[faulty] = FAULTS[fault](sides[faulty])
        with pytest.raises(FaultDetected, match="was not sent"):
            with_sides(model, tuple(sides), embed_len).encrypt_query([1] * embed_len)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("faulty", [0, 1])
def test_a_fault_in_one_ciphertext_of_three_is_noticed(scheme: str, faulty: int) -> None:
    model = client(scheme, 256, 600)
    for position in range(3):
        calls = itertools.count()

        def fault(rows: Rows, calls: Iterator[int] = calls, position: int = position) -> Rows:
            return flip_a_bit(rows) if next(calls) == position else rows

        sides = list(model._sides)
        sides[faulty] = FaultySide(sides[faulty], fault)
        with pytest.raises(FaultDetected):
            with_sides(model, tuple(sides), 600).encrypt_vec_one([1] * 600)


def test_a_fault_in_one_row_of_many_is_noticed_if_that_row_is_read_back() -> None:
    # One random row of a batch is read back: a fault that stays is noticed soon, a single one by chance.
    model = client("paillier_lookup", 256, 6)

    def fault(rows: Rows) -> Rows:
        changed = rows.copy()
        changed[::2, 5] ^= 0x10
        return changed

    sides = (FaultySide(model._sides[0], fault), model._sides[1])
    broken = with_sides(model, sides, 6)
    noticed = 0
    for _ in range(60):
        try:
            broken.encrypt_vec_batch([[1] * 6] * 10)
        except FaultDetected:
            noticed += 1
    assert 0 < noticed < 60  # either would fail once in 2^60 runs


class FaultyArithmetic(PortableArithmetic):
    """Right but for what a test replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.spoil_table: Callable[[list[list[mpz]]], None] = lambda windows: None
        self.spoil_join = False

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        table = super().fixed_base_table(base, exponent_bytes, modulus)
        assert isinstance(table, _Table)
        self.spoil_table(table.windows)
        return table

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        joined = super().join(residues, modulus, others, coprime)
        return flip_a_bit(joined) if self.spoil_join else joined


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyArithmetic:
    stand_in = FaultyArithmetic()
    monkeypatch.setattr(homomorphic, "arithmetic", stand_in)
    monkeypatch.setattr(paillier_lookup, "arithmetic", stand_in)
    return stand_in


def make_side() -> SubgroupPrime:
    p, q = generated("paillier_lookup", 256)._sides
    assert isinstance(p, SubgroupPrime)
    return SubgroupPrime(p.prime, q.prime, p.order, p.generator)


def test_a_table_without_fault_is_accepted(faulty: FaultyArithmetic) -> None:
    assert make_side().order == generated("paillier_lookup", 256)._sides[0].order  # type: ignore[attr-defined]


@pytest.mark.parametrize("window", [0, 1, 13, 27])
@pytest.mark.parametrize("entry", [0, 1, 2, 77, 254, 255])
def test_any_single_wrong_entry_of_a_table_is_noticed_when_it_is_made(
    faulty: FaultyArithmetic, window: int, entry: int
) -> None:
    # Found here: one random exponent uses one entry of 256 in each window, so 255 of 256 wrong entries went unseen.
    def spoil(windows: list[list[mpz]]) -> None:
        windows[window][entry] = windows[window][entry] + 2

    faulty.spoil_table = spoil
    with pytest.raises(FaultDetected, match="table"):
        make_side()


def test_a_random_wrong_entry_is_noticed_when_the_table_is_made(faulty: FaultyArithmetic) -> None:
    for _ in range(25):
        window, entry, bit = secrets.randbelow(28), secrets.randbelow(256), secrets.randbelow(500)

        def spoil(windows: list[list[mpz]], place: tuple[int, int, int] = (window, entry, bit)) -> None:
            windows[place[0]][place[1]] = mpz(int(windows[place[0]][place[1]]) ^ 1 << place[2])

        faulty.spoil_table = spoil
        try:
            make_side()
        except FaultDetected:
            continue
        pytest.fail(f"window {window}, entry {entry}, bit {bit} went unseen")


def test_a_table_of_another_base_is_noticed(faulty: FaultyArithmetic) -> None:
    def spoil(windows: list[list[mpz]]) -> None:
        for window in windows:
            window[:] = [entry * entry % make_modulus for entry in window]

    make_modulus = generated("paillier_lookup", 256)._sides[0].square
    faulty.spoil_table = spoil
    with pytest.raises(FaultDetected):
        make_side()


def test_exchanged_windows_of_a_table_are_noticed(faulty: FaultyArithmetic) -> None:
    # Only a random exponent shows this, and only if its bytes there differ; with all windows reversed they do.
    faulty.spoil_table = list.reverse
    with pytest.raises(FaultDetected):
        make_side()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wrongly_joined_ciphertext_is_noticed(scheme: str, faulty: FaultyArithmetic) -> None:
    faulty.spoil_join = True
    model = generated(scheme, 256)
    owner = with_sides(model, model._sides, 600)  # made now: a client of the session has the right arithmetic
    with pytest.raises(FaultDetected):
        owner.encrypt_vec_one([1] * 600)
    with pytest.raises(FaultDetected):
        owner.encrypt_query([1] * 600)


def test_a_table_that_decays_later_is_noticed_by_the_row_that_is_read_back(faulty: FaultyArithmetic) -> None:
    side = make_side()
    table = side._table
    assert isinstance(table, _Table)
    for window in table.windows:
        for entry in range(1, 256):
            window[entry] = mpz(int(window[entry]) ^ 2)
    model = generated("paillier_lookup", 256)
    broken = with_sides(model, (side, model._sides[1]), 6)
    with pytest.raises(FaultDetected):
        broken.encrypt_vec_one([0, 1, 0, 1, 0, 1])
