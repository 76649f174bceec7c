"""Batches of big-integer work behind one interface, chosen when the package is imported.

`interface` says what a backend does; `portable` does it with gmpy2 wherever Python runs. Moduli, factors and tables
are arguments: no backend keeps anything between calls.
"""

from xtrace_core.arithmetic.interface import Arithmetic, FixedBaseTable, Rows, as_rows, row_width
from xtrace_core.arithmetic.portable import PortableArithmetic

__all__ = ["Arithmetic", "FixedBaseTable", "Rows", "arithmetic", "as_rows", "row_width"]

arithmetic: Arithmetic = PortableArithmetic()
"""The backend in use."""
