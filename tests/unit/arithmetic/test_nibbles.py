"""Dot products of codes with a query: every kernel gives what Python's integers give, and wrong arrays are refused."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.missing_tools import needs
from xtrace_core.arithmetic import nibble_dots
from xtrace_core.arithmetic.nibbles import KERNELS, MAX_BYTES, portable_nibble_dots

needs_kernels = needs("the compiled module", KERNELS)
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
ROOT = Path(__file__).parents[3]
SIZES = [1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 128, 192, 255, 256, 257, 287, 288, 289, 511, 512, 513, 800]


def by_hand(codes: NDArray[np.uint8], query: NDArray[np.int8]) -> list[int]:
    values = [[half for byte in row for half in (byte & 15, byte >> 4)] for row in codes.tolist()]
    return [sum(a * b for a, b in zip(row, query.tolist(), strict=True)) for row in values]


def drawn(rows: int, width: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int8]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, width), np.uint8), rng.integers(-63, 64, 2 * width).astype(np.int8)


@given(rows=st.integers(0, 9), width=st.integers(1, 300), seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_portable_dots_are_those_by_hand(rows: int, width: int, seed: int) -> None:
    codes, query = drawn(rows, width, seed)
    assert portable_nibble_dots(codes, query).tolist() == by_hand(codes, query)


@needs_kernels
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("width", SIZES)
def test_a_kernel_gives_the_same(kernel: str, width: int) -> None:
    for rows in (0, 1, 2, 3, 4, 5, 7, 8, 1001):
        codes, query = drawn(rows, width, 31 * width + rows)
        dots = nibble_dots(codes, query, kernel=kernel)
        assert dots.dtype == np.int32
        assert dots.shape == (rows,)
        assert np.array_equal(dots, portable_nibble_dots(codes, query))


class CodeKernel(ctypes.Structure):
    """`struct code_kernel` of native/kernels.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dots", ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, ctypes.c_size_t, ctypes.c_size_t)),
    )


@needs("a C compiler", COMPILER)
def test_the_kernel_for_avx512_gives_the_same_with_its_instructions_in_plain_c(tmp_path: Path) -> None:
    # A processor without them does not run it in the tests above.
    library, harness = tmp_path / "vnni.so", Path(__file__).parent / "harness" / "avx512"
    options = ["-std=gnu11", "-O1", "-shared", "-fPIC", f"-I{harness}", "-DXTRACE_HAVE_VNNI"]
    subprocess.run([str(COMPILER), *options, str(ROOT / "native" / "vnni.c"), "-o", str(library)], check=True)
    kernel = CodeKernel.in_dll(ctypes.CDLL(str(library)), "xtrace_vnni_codes")
    for width in SIZES:
        for rows in (1, 2, 3, 4, 5, 9):
            codes, query = drawn(rows, width, 7 * width + rows)
            halves = np.ascontiguousarray(query.reshape(width, 2).T)
            dots = np.empty(rows, np.int32)
            kernel.dots(dots.ctypes.data, codes.ctypes.data, halves.ctypes.data, rows, width)
            assert np.array_equal(dots, portable_nibble_dots(codes, query))


@needs_kernels
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("coordinate", [-63, 63])
@pytest.mark.parametrize("width", [1, 33, 256, 1024, 9000, MAX_BYTES])
def test_the_largest_sums_do_not_overflow(kernel: str, coordinate: int, width: int) -> None:
    codes = np.full((5, width), 255, np.uint8)
    query = np.full(2 * width, coordinate, np.int8)
    expected = [2 * 15 * coordinate * width] * 5
    assert nibble_dots(codes, query, kernel=kernel).tolist() == expected
    assert portable_nibble_dots(codes, query).tolist() == expected


@needs_kernels
@pytest.mark.parametrize("kernel", KERNELS)
def test_threads_share_the_rows(kernel: str) -> None:
    codes, query = drawn(50_000, 12, 1)
    expected = portable_nibble_dots(codes, query)
    assert all(np.array_equal(nibble_dots(codes, query, threads, kernel), expected) for threads in (1, 2, 3, 8))


def test_codes_that_begin_anywhere_in_memory() -> None:
    codes, query = drawn(64, 40, 2)
    for offset in range(33):
        moved = np.empty(codes.size + offset, np.uint8)[offset:].reshape(codes.shape)
        moved[:] = codes
        assert np.array_equal(nibble_dots(moved, query), portable_nibble_dots(codes, query))


def test_by_default_the_fastest_kernel_is_used() -> None:
    codes, query = drawn(10, 16, 3)
    assert nibble_dots(codes, query).tolist() == by_hand(codes, query)
    assert KERNELS[-1:] in ([], ["plain"])


GOOD = np.zeros((3, 4), np.uint8)
QUERY = np.zeros(8, np.int8)


@pytest.mark.parametrize(
    ("codes", "query"),
    [
        (GOOD.astype(np.int8), QUERY),
        (GOOD.astype(np.uint16), QUERY),
        (GOOD, QUERY.astype(np.uint8)),
        (GOOD, QUERY.astype(np.int32)),
        (GOOD[0], QUERY),
        (GOOD[None], QUERY),
        (GOOD[:, :0], QUERY[:0]),
        (GOOD, QUERY[:7]),
        (GOOD, np.zeros(10, np.int8)),
        (GOOD, QUERY.reshape(2, 4)),
        (np.zeros((3, 8), np.uint8)[:, ::2], QUERY),
        (np.asfortranarray(GOOD), QUERY),
        (GOOD, np.zeros(16, np.int8)[::2]),
        (GOOD, np.full(8, 64, np.int8)),
        (GOOD, np.full(8, -64, np.int8)),
        (GOOD, np.full(8, -128, np.int8)),
        (np.zeros((1, MAX_BYTES + 1), np.uint8), np.zeros(2 * MAX_BYTES + 2, np.int8)),
    ],
)
def test_other_arrays_are_refused(codes: Any, query: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"expected|outside"):
        nibble_dots(codes, query)


@needs_kernels
class TestArguments:
    """The extension itself, past what checks for it: an exception each time, never a crash."""

    @pytest.mark.parametrize("kernel", KERNELS)
    def test_what_does_not_fit(self, kernel: str) -> None:
        from xtrace_core.arithmetic import _native

        dots, query = np.empty(3, np.int32), np.zeros((2, 4), np.int8)
        _native.nibble_dots(kernel, 1, dots, GOOD, query)
        fixed = np.empty(3, np.int32)
        fixed.flags.writeable = False
        wrong: list[tuple[Any, ...]] = [
            ("other", 1, dots, GOOD, query),
            (kernel, 1, dots[:2], GOOD, query),
            (kernel, 1, np.empty(4, np.int32), GOOD, query),
            (kernel, 1, dots.astype(np.int64), GOOD, query),
            (kernel, 1, fixed, GOOD, query),
            (kernel, 1, dots, GOOD[:, :3].copy(), query),
            (kernel, 1, dots, GOOD.T, query),
            (kernel, 1, dots, GOOD, query[:1]),
            (kernel, 1, dots, GOOD, query.astype(np.uint8)),
            (kernel, 1, dots, GOOD, query + np.int8(64)),
            (kernel, 1, dots, GOOD, None),
            (kernel, 1, dots, np.zeros((3, 0), np.uint8), query[:, :0].copy()),
            (kernel, 1, dots, np.zeros((3, MAX_BYTES + 1), np.uint8), np.zeros((2, MAX_BYTES + 1), np.int8)),
        ]
        for arguments in wrong:
            with pytest.raises((TypeError, ValueError, BufferError)):
                _native.nibble_dots(*arguments)
