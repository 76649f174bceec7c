"""Factors prepared for many rows, within one memory budget for the whole process.

The memory of a prepared ciphertext grows with the square of its length, and clients choose how many they send.
"""

import threading
from collections import OrderedDict
from typing import Final, TypeAlias

from xtrace_core.arithmetic import Multiplier, arithmetic, row_width

BUDGET_BYTES: Final = 64 * 2**20

_Key: TypeAlias = tuple[int, int]


class PreparedFactors:
    """The most recently used factors. Safe to call from any thread."""

    def __init__(self, budget: int = BUDGET_BYTES) -> None:
        self._budget = budget
        self._kept: OrderedDict[_Key, Multiplier] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """The approximate memory of the factors, in bytes."""
        return self._bytes

    def multiplier(self, factor: int, modulus: int) -> Multiplier:
        """Returns a multiplier of rows by the factor, modulo the modulus."""
        key = factor, modulus
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = arithmetic.multiplier(factor, modulus)
                self._bytes += _size(modulus)
            self._kept.move_to_end(key)
            while self._bytes > self._budget and len(self._kept) > 1:
                (_, dropped), _ = self._kept.popitem(last=False)
                self._bytes -= _size(dropped)
        return found


def _size(modulus: int) -> int:
    """The approximate memory of a prepared factor: a row of limbs for each limb."""
    words = row_width(modulus) // 4  # limbs have 26 to 52 bits
    return words * words * 2


prepared_factors: Final = PreparedFactors()
"""The prepared factors of this process."""
