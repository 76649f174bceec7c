"""The backend for every machine: gmpy2, one integer after another.

Only powers can run in constant time here (GMP's `mpz_powm_sec`). The products and remainders around them are GMP's
ordinary ones: they read no table, but their time may depend on the values.
"""

from dataclasses import dataclass

import numpy as np
from gmpy2 import gcd, invert, mpz, powmod, powmod_sec
from numpy.typing import NDArray

from xtrace_core.arithmetic.interface import (
    FixedBaseTable,
    Joiner,
    Multiplier,
    PrimeSquare,
    Rows,
    check_bits,
    row_width,
)
from xtrace_core.secrecy import Secretive


@dataclass(frozen=True, slots=True, repr=False)
class _Table(Secretive):
    modulus: int
    exponent_bytes: int
    base: mpz
    windows: list[list[mpz]]  # windows[i][j] = base ** (j << 8 * i), computed on first use


class PortableArithmetic:
    """gmpy2 behind the interface `Arithmetic`; holds Python's interpreter lock while it works."""

    name = "portable"

    def __init__(self, constant_time: bool = False) -> None:
        self.constant_time = constant_time

    def multiply(self, rows: Rows, factor: int, modulus: int, plus: int = 0) -> Rows:
        by, mod = mpz(factor), mpz(modulus)
        if plus:
            add = mpz(plus)
            return _to_rows([(x * by + add) % mod for x in _integers(rows)], row_width(modulus))
        return _to_rows([x * by % mod for x in _integers(rows)], row_width(modulus))

    def multiply_pairs(self, left: Rows, right: Rows, modulus: int) -> Rows:
        mod = mpz(modulus)
        pairs = zip(_integers(left), _integers(right), strict=True)
        return _to_rows([x * y % mod for x, y in pairs], row_width(modulus))

    def divide(self, rows: Rows, divisor: int) -> tuple[Rows, Rows]:
        by = mpz(divisor)
        pairs = [divmod(x, by) for x in _integers(rows)]
        quotients = _to_rows([quotient for quotient, _ in pairs], rows.shape[1])
        return quotients, _to_rows([remainder for _, remainder in pairs], row_width(divisor))

    def power(self, rows: Rows, exponent: int, modulus: int) -> Rows:
        to, mod = mpz(exponent), mpz(modulus)
        raised = _power_in_constant_time if self.constant_time else powmod
        return _to_rows([raised(x, to, mod) for x in _integers(rows)], row_width(modulus))

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        table = _Table(modulus, exponent_bytes, mpz(base) % modulus, [])
        if not self.constant_time:
            table.windows[:] = _windows(table)
        return table

    def fixed_base_power(self, table: FixedBaseTable, exponents: Rows) -> Rows:
        if not isinstance(table, _Table):
            raise TypeError(f"got a table of {type(table).__name__}, expected one made by this backend")
        if exponents.shape[1] != table.exponent_bytes:
            raise ValueError(f"got exponents of {exponents.shape[1]} bytes, expected {table.exponent_bytes}")
        powers = _powers_in_constant_time if self.constant_time else _indexed_powers
        return _to_rows(powers(table, exponents), row_width(table.modulus))

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        # Garner: x = a + m * ((b - a) / m mod m')
        m, other = mpz(modulus), mpz(coprime)
        inverse = invert(m, other)
        pairs = zip([a % m for a in _integers(residues)], _integers(others), strict=True)
        return _to_rows([a + m * ((b - a) * inverse % other) for a, b in pairs], row_width(modulus * coprime))

    def multiplier(self, factor: int, modulus: int, plus: int = 0) -> Multiplier:
        return _Multiplier(self, factor, modulus, plus)

    def joiner(self, modulus: int, coprime: int) -> Joiner:
        return _Joiner(self, modulus, coprime)

    def prime_square(self, prime: int, other: int) -> PrimeSquare:
        if gcd(prime, other) != 1:
            raise ValueError("the prime divides the other factor of the modulus, expected a modulus with it once")
        return PortablePrimeSquare(self, prime, other)

    def below(self, rows: Rows, bound: int) -> NDArray[np.bool_]:
        return np.array([0 < x < bound for x in _integers(rows)], dtype=np.bool_)

    def encode_slots(self, bits: NDArray[np.uint8]) -> Rows:
        check_bits(bits)
        pairs = np.zeros((len(bits), 2 * bits.shape[1]), dtype=np.uint8)
        pairs[:, ::2] = bits[:, ::-1]  # position w−1 is the least significant pair
        return np.packbits(pairs, axis=1, bitorder="little")

    def count_slots(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        used_bytes, spare_bits = -(-2 * positions // 8), -2 * positions % 8
        if rows.shape[1] < used_bytes:
            rows = np.pad(rows, ((0, 0), (0, used_bytes - rows.shape[1])))
        pairs = rows[:, :used_bytes]
        low, high = pairs & 0x55, (pairs >> 1) & 0x55
        bad = np.any(low & high, axis=1) | np.any(rows[:, used_bytes:], axis=1)
        bad |= pairs[:, -1] >> (8 - spare_bits) != 0
        return np.bitwise_count(low).sum(axis=1, dtype=np.int64), ~bad

    def encode_digits(self, bits: NDArray[np.uint8]) -> Rows:
        check_bits(bits)
        texts = [row.tobytes().decode("ascii") for row in bits + np.uint8(ord("0"))]
        return _to_rows([mpz(text, 3) for text in texts], row_width(3 ** bits.shape[1]))

    def count_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        values, bound = _integers(rows), 3**positions
        counts = np.array([value.digits(3).count("1") for value in values], dtype=np.int64)
        return counts, np.array([value < bound for value in values], dtype=np.bool_)

    def decode_digits(self, rows: Rows, positions: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        values, bound = _integers(rows), mpz(3**positions)
        texts = [(value % bound).digits(3).zfill(positions) for value in values]
        digits = np.frombuffer("".join(texts).encode("ascii"), dtype=np.uint8).reshape(len(rows), positions)
        digits = digits - np.uint8(ord("0"))
        below = np.array([value < bound for value in values], dtype=np.bool_)
        return digits & np.uint8(1), below & (digits <= 1).all(axis=1)


@dataclass(frozen=True, slots=True, repr=False)
class _Multiplier(Secretive):
    arithmetic: PortableArithmetic
    factor: int
    modulus: int
    plus: int

    def __call__(self, rows: Rows) -> Rows:
        return self.arithmetic.multiply(rows, self.factor, self.modulus, self.plus)


@dataclass(frozen=True, slots=True, repr=False)
class _Joiner(Secretive):
    arithmetic: PortableArithmetic
    modulus: int
    coprime: int

    def __call__(self, residues: Rows, others: Rows) -> Rows:
        return self.arithmetic.join(residues, self.modulus, others, self.coprime)


class PortablePrimeSquare(Secretive):
    """`PrimeSquare` in terms of the other operations: the reference for the compiled one."""

    __slots__ = ("_arithmetic", "_square", "other", "prime")

    def __init__(self, arithmetic: PortableArithmetic, prime: int, other: int) -> None:
        self.prime = prime
        self.other = other
        self._arithmetic = arithmetic
        self._square = prime * prime

    def encrypt(self, messages: Rows, table: FixedBaseTable, exponents: Rows) -> Rows:
        return self._hide(messages, self._arithmetic.fixed_base_power(table, exponents))

    def encrypt_power(self, messages: Rows, rows: Rows, exponent: int) -> Rows:
        return self._hide(messages, self._arithmetic.power(rows, exponent, self._square))

    def read(self, rows: Rows, table: FixedBaseTable, exponents: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        powers = self._arithmetic.fixed_base_power(table, exponents)
        return self._message(self._arithmetic.multiply_pairs(rows, powers, self._square), 1)

    def read_power(self, rows: Rows, exponent: int) -> tuple[Rows, NDArray[np.bool_]]:
        return self._message(self._arithmetic.power(rows, exponent, self._square), exponent)

    def _hide(self, messages: Rows, noise: Rows) -> Rows:
        n = self.prime * self.other
        plain = self._arithmetic.multiply(messages, n % self._square, self._square, plus=1)  # (1+n)^m = 1 + m·n
        return self._arithmetic.multiply_pairs(plain, noise, self._square)

    def _message(self, rows: Rows, exponent: int) -> tuple[Rows, NDArray[np.bool_]]:
        quotients, remainders = self._arithmetic.divide(rows, self.prime)  # 1 + m·exponent·other·p
        valid = (remainders[:, 0] == 1) & ~remainders[:, 1:].any(axis=1)
        factor = int(invert(exponent * self.other, self.prime))
        return self._arithmetic.multiply(quotients, factor, self.prime), valid


def _windows(table: _Table) -> list[list[mpz]]:
    mod, step = mpz(table.modulus), table.base
    windows = []
    for _ in range(table.exponent_bytes):
        window = [mpz(1)]
        for _ in range(255):
            window.append(window[-1] * step % mod)
        windows.append(window)
        step = window[-1] * step % mod
    return windows


def _indexed_powers(table: _Table, exponents: Rows) -> list[mpz]:
    if not table.windows:
        table.windows[:] = _windows(table)
    mod, powers = mpz(table.modulus), []
    for exponent in exponents:
        product = mpz(1)
        for window, byte in zip(table.windows, exponent.tobytes(), strict=True):
            product = product * window[byte] % mod
        powers.append(product)
    return powers


def _powers_in_constant_time(table: _Table, exponents: Rows) -> list[mpz]:
    mod = mpz(table.modulus)
    return [_power_in_constant_time(table.base, exponent, mod) for exponent in _integers(exponents)]


def _power_in_constant_time(base: mpz, exponent: mpz, modulus: mpz) -> mpz:
    # GMP's function for secrets, for odd moduli. It rejects exponent 0, which is never a secret.
    return powmod_sec(base, exponent, modulus) if exponent else mpz(1) % modulus


def _integers(rows: Rows) -> list[mpz]:
    data, width = rows.tobytes(), rows.shape[1]
    from_bytes = mpz.from_bytes
    return [from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]


def _to_rows(values: list[mpz], width: int) -> Rows:
    data = b"".join([value.to_bytes(width, "little") for value in values])
    return np.frombuffer(data, dtype=np.uint8).reshape(len(values), width)
