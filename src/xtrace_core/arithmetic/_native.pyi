"""The compiled extension; native/module.c checks every argument."""

import numpy as np
from numpy.typing import NDArray

_Rows = NDArray[np.uint8]
_Words = NDArray[np.uint64]
_Flags = NDArray[np.bool_]
_Ring = tuple[int, int, int, _Words]

def interface() -> int: ...
def supported() -> list[tuple[str, int, int, int, int, int, bool]]: ...
def linear(kernels: str, threads: int, out: _Rows, rows: _Rows, words: _Words, limbs: int, /) -> None: ...
def table(kernels: str, threads: int, ring: _Ring, entries: _Words, bases: _Rows, reduction: _Words, /) -> None: ...
def fixed_encrypt(
    kernels: str, threads: int, ring: _Ring, table: _Words, out: _Rows, exponents: _Rows, messages: _Rows | None, /
) -> None: ...
def fixed_read(
    kernels: str,
    threads: int,
    ring: _Ring,
    table: _Words,
    reduction: _Words,
    factor: _Words,
    out: _Rows,
    valid: _Flags,
    rows: _Rows,
    exponents: _Rows,
    /,
) -> None: ...
def power_encrypt(
    kernels: str,
    threads: int,
    ring: _Ring,
    exponent: _Rows,
    reduction: _Words,
    out: _Rows,
    rows: _Rows,
    messages: _Rows | None,
    /,
) -> None: ...
def power_read(
    kernels: str,
    threads: int,
    ring: _Ring,
    exponent: _Rows,
    reduction: _Words,
    factor: _Words,
    out: _Rows,
    valid: _Flags,
    rows: _Rows,
    /,
) -> None: ...
def below(flags: _Flags, rows: _Rows, bound: _Rows, /) -> None: ...
def encode_slots(out: _Rows, bits: _Rows, /) -> None: ...
def count_slots(counts: NDArray[np.int64], flags: _Flags, rows: _Rows, positions: int, /) -> None: ...
def encode_digits(threads: int, out: _Rows, bits: _Rows, /) -> None: ...
def count_digits(threads: int, counts: NDArray[np.int64], flags: _Flags, rows: _Rows, positions: int, /) -> None: ...
def decode_digits(threads: int, bits: _Rows, flags: _Flags, rows: _Rows, /) -> None: ...
def code_kernels() -> list[str]: ...
def nibble_dots(
    kernel: str, threads: int, dots: NDArray[np.int32], codes: _Rows, query: NDArray[np.int8], /
) -> None: ...
def lattice_kernels() -> list[str]: ...
def lattice_transform(
    kernels: str,
    primes: _Words,
    prime: int,
    inverse: bool,
    out: NDArray[np.uint32],
    rows: NDArray[np.uint32],
    /,
) -> None: ...
def lattice_values(
    kernels: str,
    primes: _Words,
    words: int,
    slab_words: int,
    out: NDArray[np.uint16],
    bodies: tuple[bytes | memoryview, ...],
    queries: tuple[bytes | memoryview, ...],
    /,
) -> None: ...
def lattice_masked(
    kernels: str,
    primes: _Words,
    sums_of_noisy: bool,
    sums: NDArray[np.uint32],
    matrix: NDArray[np.uint32],
    other: NDArray[np.uint32],
    secret: NDArray[np.uint32],
    noise: NDArray[np.uint32],
    codes: _Rows,
    weights: NDArray[np.uint32],
    /,
) -> bytes: ...
def lattice_read(
    kernels: str,
    threads: int,
    primes: _Words,
    max_noise: int,
    slabs: NDArray[np.uint64],
    out: NDArray[np.uint16],
    valid: NDArray[np.bool_],
    asked: NDArray[np.uint32],
    kept: NDArray[np.uint32],
    secrets: tuple[bytes, ...],
    hints: tuple[bytes, ...],
    slots: tuple[NDArray[np.int64], ...],
    values: tuple[bytes | memoryview, ...],
    /,
) -> None: ...
