"""The backend for every machine: gmpy2, one integer after another."""

from dataclasses import dataclass

import numpy as np
from gmpy2 import invert, mpz, powmod

from xtrace_core.arithmetic.interface import FixedBaseTable, Rows, row_width


@dataclass(frozen=True, slots=True, repr=False)
class _Table:
    modulus: int
    windows: list[list[mpz]]  # windows[i][j] = base ** (j << 8 * i)

    @property
    def exponent_bytes(self) -> int:
        return len(self.windows)


class PortableArithmetic:
    """gmpy2 behind the interface `Arithmetic`; holds Python's interpreter lock while it works."""

    name = "portable"

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
        return _to_rows([powmod(x, to, mod) for x in _integers(rows)], row_width(modulus))

    def fixed_base_table(self, base: int, exponent_bytes: int, modulus: int) -> FixedBaseTable:
        mod = mpz(modulus)
        step = mpz(base) % mod
        windows = []
        for _ in range(exponent_bytes):
            window = [mpz(1)]
            for _ in range(255):
                window.append(window[-1] * step % mod)
            windows.append(window)
            step = window[-1] * step % mod
        return _Table(modulus, windows)

    def fixed_base_power(self, table: FixedBaseTable, exponents: Rows) -> Rows:
        if not isinstance(table, _Table):
            raise TypeError(f"got a table of {type(table).__name__}, expected one made by this backend")
        if exponents.shape[1] != table.exponent_bytes:
            raise ValueError(f"got exponents of {exponents.shape[1]} bytes, expected {table.exponent_bytes}")
        mod = mpz(table.modulus)
        powers = []
        for exponent in exponents:
            product = mpz(1)
            for window, byte in zip(table.windows, exponent.tobytes(), strict=True):
                product = product * window[byte] % mod
            powers.append(product)
        return _to_rows(powers, row_width(table.modulus))

    def join(self, residues: Rows, modulus: int, others: Rows, coprime: int) -> Rows:
        # Garner: x = a + m * ((b - a) / m mod m')
        m, other = mpz(modulus), mpz(coprime)
        inverse = invert(m, other)
        pairs = zip([a % m for a in _integers(residues)], _integers(others), strict=True)
        return _to_rows([a + m * ((b - a) * inverse % other) for a, b in pairs], row_width(modulus * coprime))


def _integers(rows: Rows) -> list[mpz]:
    data, width = rows.tobytes(), rows.shape[1]
    from_bytes = mpz.from_bytes
    return [from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]


def _to_rows(values: list[mpz], width: int) -> Rows:
    data = b"".join([value.to_bytes(width, "little") for value in values])
    return np.frombuffer(data, dtype=np.uint8).reshape(len(values), width)
