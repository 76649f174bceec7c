"""The arithmetic of encrypted blocks: every compiled kernel gives the bytes of NumPy, and wrong arrays are refused."""

import mmap
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.missing_tools import needs
from xtrace_core.lattice.compiled import KERNELS, CompiledRing
from xtrace_core.lattice.interface import Elements
from xtrace_core.lattice.layout import all_reduced, from_tiles, to_tiles
from xtrace_core.lattice.numbers import MODULI
from xtrace_core.lattice.parameters import DEGREE, PRIMES, RANK, slab_words
from xtrace_core.lattice.portable import PortableRing
from xtrace_core.lattice.ring import ring

pytestmark = needs("the compiled module", KERNELS)
PORTABLE = PortableRing()
COUNTS = (1, 2, 3, 4, 5, 8, 9)
LARGEST: NDArray[np.uint32] = np.broadcast_to((MODULI - np.uint64(1)).astype(np.uint32), (len(PRIMES), DEGREE))


def elements(seed: int, *shape: int) -> Elements:
    drawn = np.random.default_rng(seed).integers(0, 1 << 62, (*shape, len(PRIMES), DEGREE), dtype=np.uint64)
    return (drawn % MODULI).astype(np.uint32)


def stored(embed_len: int, seed: int) -> bytes:
    """A body or a query; without a seed the largest residues."""
    parts = [elements(seed, count) if seed else np.repeat(LARGEST[None], count, 0) for count in slab_words(embed_len)]
    return b"".join(to_tiles(part) for part in parts)


@pytest.mark.parametrize("kernel", KERNELS)
def test_transforms(kernel: str) -> None:
    compiled = CompiledRing(kernel)
    for count in COUNTS:
        for some in (elements(count, count), np.repeat(LARGEST[None], count, 0), elements(count, count)[:, :1]):
            assert np.array_equal(compiled.forward(some), PORTABLE.forward(some))
            assert np.array_equal(compiled.inverse(some), PORTABLE.inverse(some))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("embed_len", [1, 40, 64, 68, 512, 520])
def test_values(kernel: str, embed_len: int) -> None:
    queries = [stored(embed_len, seed) for seed in (0, 1)]
    for count in (0, *COUNTS):
        bodies = [stored(embed_len, seed) for seed in range(count)]
        expected = PORTABLE.evaluate(embed_len, bodies, queries)
        assert np.array_equal(CompiledRing(kernel).evaluate(embed_len, bodies, queries), expected)


@pytest.mark.parametrize("kernel", KERNELS)
def test_bodies_may_begin_anywhere_in_memory(kernel: str) -> None:
    body, query = stored(8, 1), stored(8, 2)
    expected = PORTABLE.evaluate(8, [body], [query])
    for offset in (1, 4, 8, 13):
        with mmap.mmap(-1, offset + len(body)) as mapped:
            mapped[offset:] = body
            view = memoryview(mapped)[offset:]
            assert np.array_equal(CompiledRing(kernel).evaluate(8, [view], [query]), expected)
            view.release()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("words", [1, 3, 4, 5, 16, 17, 33])
@pytest.mark.parametrize("sums_of_noisy", [False, True])
def test_masked_rows(kernel: str, words: int, sums_of_noisy: bool) -> None:
    largest = np.broadcast_to(LARGEST, (words, RANK, *LARGEST.shape)).copy()
    noisy = np.random.default_rng(words).integers(-(1 << 42), 1 << 42, (words, DEGREE))
    for matrix, other, secret, rows in (
        (elements(1, words, RANK), elements(2, words, RANK), elements(3, RANK), noisy),
        (largest, largest, largest[0], np.full_like(noisy, 1 << 42)),
        (largest, largest, largest[0], np.full_like(noisy, -(1 << 42))),
    ):
        arguments = matrix, other, secret, rows
        expected = PORTABLE.masked(*arguments, sums_of_noisy=sums_of_noisy)
        found = CompiledRing(kernel).masked(*arguments, sums_of_noisy=sums_of_noisy)
        assert found[0] == expected[0]
        assert np.array_equal(found[1], expected[1])


def test_tiles_are_read_as_they_are_written() -> None:
    some = elements(1, 5)
    data = to_tiles(some)
    assert np.array_equal(from_tiles(data), some)
    words = np.frombuffer(data, "<u8").reshape(64, 5, 16)
    for tile, element, place in ((0, 0, 0), (3, 2, 7), (63, 4, 15)):
        low, high = some[element, :, 16 * tile + place].tolist()
        assert words[tile, element, place] == low | high << 32
    assert all_reduced(data)
    assert all_reduced(stored(8, 0))
    for t, prime in enumerate(PRIMES):
        wrong = np.frombuffer(data, "<u4").copy()
        wrong[2 * 77 + t] = prime
        assert not all_reduced(wrong.tobytes())


def test_the_fastest_kernel_is_in_use() -> None:
    assert ring.name == KERNELS[0]
    assert KERNELS[-1] == "plain"


def _refused(error: type[Exception], sentence: str, call: Any, *arguments: Any, **named: Any) -> None:
    with pytest.raises(error, match=sentence):
        call(*arguments, **named)


def test_wrong_arrays_are_refused() -> None:
    compiled, body = CompiledRing(KERNELS[0]), stored(8, 1)
    matrix, secret, noisy = elements(1, 2, RANK), elements(3, RANK), np.zeros((2, DEGREE), np.int64)
    named: dict[str, Any] = {"sums_of_noisy": True}
    evaluate, masked = compiled.evaluate, compiled.masked
    _refused(ValueError, "a body has 16376 bytes, expected 16384", evaluate, 8, [body[: 16384 - 8]], [body])
    _refused(ValueError, "a query has 1 bytes", evaluate, 8, [body], [b"x"])
    _refused(TypeError, "bytes-like", evaluate, 8, [1], [body])
    _refused(ValueError, "the matrix has", masked, matrix[:1], matrix, secret, noisy, **named)
    _refused(ValueError, "the other matrix has", masked, matrix, matrix[:1], secret, noisy, **named)
    _refused(ValueError, "the secret has", masked, matrix, matrix, secret[:2], noisy, **named)
    _refused(TypeError, "the noisy rows", masked, matrix, matrix, secret, noisy.astype(np.int32), **named)
    _refused(ValueError, "the noisy rows", masked, matrix, matrix, secret, noisy[:, :8].copy(), **named)
    _refused(TypeError, "the input is an array of format L", compiled.forward, matrix.astype(np.uint64))
    _refused(ValueError, "no kernels for blocks named abacus", CompiledRing("abacus").forward, matrix)
