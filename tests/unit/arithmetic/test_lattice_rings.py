"""The arithmetic of encrypted blocks: every compiled kernel gives the bytes of NumPy, and wrong arrays are refused."""

import mmap
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.missing_tools import needs
from xtrace_core.lattice.compiled import KERNELS, CompiledRing
from xtrace_core.lattice.interface import Elements, Noisy, QueryValues, UnreadBlock
from xtrace_core.lattice.layout import all_reduced, from_tiles, pack_values, to_tiles
from xtrace_core.lattice.numbers import MODULI
from xtrace_core.lattice.parameters import DEGREE, PRIMES, RANK, hint_bytes, slab_words, slabs
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
    rng = np.random.default_rng(words)
    noise = rng.integers(0, 1 << 32, (words, DEGREE), dtype=np.uint32)
    weights = [(1, -2, 1 << 41, -(1 << 41)), (PRIMES[0],) * 4, (-1, -1, -1, -1)]
    for count in (0, 1, 7, 300, 1024):
        codes = rng.integers(0, 16, (words, count), dtype=np.uint8)
        _compare(kernel, words, Noisy(noise, codes, weights[count % 3]), sums_of_noisy)
    ones, none = np.full_like(noise, 0xFFFF), np.full_like(noise, 0xFFFF0000)
    for extreme, code in ((ones, 15), (none, 15), (ones, 0), (none, 0)):
        for weight in (PRIMES[0] - 1, PRIMES[1] - 1, 1):
            codes = np.full((words, DEGREE), code, np.uint8)
            _compare(kernel, words, Noisy(extreme, codes, (weight,) * 4), sums_of_noisy)


def _compare(kernel: str, words: int, noisy: Noisy, sums_of_noisy: bool) -> None:
    """Masks with random numbers and with the largest."""
    largest = np.broadcast_to(LARGEST, (words, RANK, *LARGEST.shape)).copy()
    drawn = elements(1, words, RANK), elements(2, words, RANK), elements(3, RANK)
    for matrix, other, secret in (drawn, (largest, largest, largest[0])):
        arguments = matrix, other, secret, noisy
        expected = PORTABLE.masked(*arguments, sums_of_noisy=sums_of_noisy)
        found = CompiledRing(kernel).masked(*arguments, sums_of_noisy=sums_of_noisy)
        assert found[0] == expected[0]
        assert np.array_equal(found[1], expected[1])


def unread(embed_len: int, queries: int, counts: list[int], seed: int) -> list[UnreadBlock]:
    """Blocks whose numbers are random: what any server may answer, so most of their distances are not valid."""
    rng = np.random.default_rng(seed)
    blocks = []
    for count in counts:
        slots = np.sort(rng.choice(DEGREE, count, replace=False)) if count % 3 else np.arange(count)
        values = pack_values(rng.integers(0, 1 << 12, (queries, slabs(embed_len), count), dtype=np.uint16))
        secret = rng.integers(0, 3, RANK * DEGREE, dtype=np.uint8).tobytes()
        blocks.append(UnreadBlock(secret, rng.bytes(hint_bytes(embed_len)), slots.astype(np.int64), values))
    return blocks


def query_values(embed_len: int, queries: int, seed: int) -> QueryValues:
    drawn = elements(seed, queries, slabs(embed_len) + 1, RANK)[:, :, :, 0] if seed else None
    if drawn is None:
        drawn = np.full((queries, slabs(embed_len) + 1, RANK, DEGREE), PRIMES[0] - 1, np.uint32)
    return QueryValues(np.ascontiguousarray(drawn[:, 0]), np.ascontiguousarray(drawn[:, 1:]))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("embed_len", "queries"), [(1, 1), (512, 2), (513, 1), (1030, 9)])
@pytest.mark.parametrize("threads", [1, 3])
def test_readings(kernel: str, embed_len: int, queries: int, threads: int) -> None:
    compiled = CompiledRing(kernel, threads)
    for seed, counts in ((0, [1]), (1, [1024, 1, 7, 9, 300, 16]), (2, [0, 3, 5, 1000, 8, 12, 11, 10, 1, 6, 2])):
        arguments = embed_len, query_values(embed_len, queries, seed), unread(embed_len, queries, counts, seed)
        expected, found = PORTABLE.read(*arguments), compiled.read(*arguments)
        assert expected[0].shape == (queries, sum(counts))
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[1], expected[1])


def test_nothing_to_read() -> None:
    for one in (PORTABLE, CompiledRing(KERNELS[0])):
        distances, valid = one.read(8, query_values(8, 2, 1), [])
        assert (distances.shape, valid.shape) == ((2, 0), (0,))


@pytest.mark.parametrize("one", [PORTABLE, CompiledRing(KERNELS[0] if KERNELS else "")], ids=["portable", "compiled"])
def test_answers_that_are_not_of_the_format_are_not_read(one: PortableRing | CompiledRing) -> None:
    (good,) = unread(8, 1, [3], 1)
    for wrong, sentence in (
        (good._replace(slots=good.slots[:2]), "got 5 bytes for 2 values, expected 3"),
        (good._replace(values=good.values[:-1]), "got 4 bytes for 3 values, expected 5"),
        (good._replace(values=b"\xff" * 5), "the bits after the last value are not zero"),
        (good._replace(slots=np.array([1, 1, 2])), "slots are not ascending"),
        (good._replace(slots=np.array([-1, 1, 2])), "slots are not ascending"),
        (good._replace(slots=np.array([0, 1, 1024])), "not below 1024"),
    ):
        with pytest.raises(ValueError, match=sentence):
            one.read(8, query_values(8, 1, 1), [good, wrong])


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
    matrix, secret, noise = elements(1, 2, RANK), elements(3, RANK), np.zeros((2, DEGREE), np.uint32)
    noisy = Noisy(noise, np.zeros((2, 5), np.uint8), (1, 2, 3, 4))
    named: dict[str, Any] = {"sums_of_noisy": True}
    evaluate, masked = compiled.evaluate, compiled.masked
    _refused(ValueError, "a body has 16376 bytes, expected 16384", evaluate, 8, [body[: 16384 - 8]], [body])
    _refused(ValueError, "a query has 1 bytes", evaluate, 8, [body], [b"x"])
    _refused(TypeError, "bytes-like", evaluate, 8, [1], [body])
    _refused(ValueError, "the matrix has", masked, matrix[:1], matrix, secret, noisy, **named)
    _refused(ValueError, "the other matrix has", masked, matrix, matrix[:1], secret, noisy, **named)
    _refused(ValueError, "the secret has", masked, matrix, matrix, secret[:2], noisy, **named)
    for error, sentence, wrong in (
        (TypeError, "the noise is", noisy._replace(noise=noise.astype(np.int64))),
        (ValueError, "the noise has", noisy._replace(noise=noise[:, :8].copy())),
        (TypeError, "the codes is", noisy._replace(codes=np.zeros(5, np.uint8))),
        (ValueError, "the codes has", noisy._replace(codes=noisy.codes[:1])),
        (ValueError, "1025 rows, expected at most 1024", noisy._replace(codes=np.zeros((2, 1025), np.uint8))),
    ):
        _refused(error, sentence, masked, matrix, matrix, secret, wrong, **named)
    _refused(TypeError, "the input is an array of format L", compiled.forward, matrix.astype(np.uint64))
    _refused(ValueError, "no kernels for blocks named abacus", CompiledRing("abacus").forward, matrix)
