"""How many instructions for products a row takes at least: what bounds the kernels from below.

With AVX-512 IFMA a product of two limbs is two instructions for eight rows, of which one starts each cycle; with AVX2
it is five instructions for four rows, of which the processors measured so far start four each cycle.
"""

from dataclasses import dataclass

from xtrace_core.arithmetic import Arithmetic

WINDOW_BITS = 4


@dataclass(frozen=True, slots=True)
class Bounds:
    """Instructions for one row, in units of one instruction for one row."""

    limb_bits: int
    product: int
    """Instructions a product of two limbs takes."""
    square_limbs: int
    """Limbs of numbers below n²."""
    half: int
    """Limbs of a prime."""

    @classmethod
    def of(cls, arithmetic: Arithmetic, key_len: int) -> "Bounds":
        """For a backend; all zero for one that is not compiled."""
        kernels = getattr(arithmetic, "kernels", None)
        if kernels is None:
            return cls(0, 0, 0, 0)
        product = 2 if kernels.name == "ifma" else 5
        modulus, prime = 1 << (4 * key_len - 1), 1 << (key_len - 1)
        limbs = kernels.limbs_of_modulus
        return cls(kernels.limb_bits, product, limbs(modulus), limbs(prime))

    def scan(self) -> int:
        """A linear map of n² to n²."""
        return self.product * self.square_limbs * (self.square_limbs + 2)

    def multiply(self) -> int:
        """Three products of digits and two reductions."""
        return self.product * 5 * self.half**2

    def square(self) -> int:
        """The same with one of the products a square, and two of them alike."""
        return self.product * 7 * self.half**2 // 2

    def reduce(self) -> int:
        """From n² to two digits."""
        return self.product * 2 * self.half * (self.square_limbs + 2)

    def fixed_encrypt(self, entries: int) -> int:
        """One product an entry, of which the last is with the message; the message's own; back to bytes."""
        return entries * self.multiply() + self.product * 3 * self.half**2

    def fixed_read(self, entries: int) -> int:
        """The reduction, one product an entry, and the factor of the message."""
        return self.reduce() + entries * self.multiply() + self.product * 2 * self.half**2

    def power_read(self, exponent_bits: int) -> int:
        """The reduction, the powers of one window, four squares and a product a window, the factor of the message."""
        windows = -(-exponent_bits // WINDOW_BITS)
        products = windows - 1 + (1 << WINDOW_BITS) - 3 + 1
        squares = WINDOW_BITS * (windows - 1) + 1
        own = self.product * 2 * self.half**2
        return self.reduce() + products * self.multiply() + squares * self.square() + own
