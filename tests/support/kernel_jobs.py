"""Jobs for tests/unit/arithmetic/harness: what kernels are to do, and what comes out if they do it right.

The harness is a program in C, so it also runs under valgrind, with the sanitizers, and as a program for another
processor, where Python and the compiled module do not.
"""

import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xtrace_core.arithmetic import Rows, as_rows, row_width
from xtrace_core.arithmetic.portable import PortableArithmetic
from xtrace_core.lattice.compiled import PREPARED, prepared_weights
from xtrace_core.lattice.interface import Elements, Noisy, QueryValues, UnreadBlock
from xtrace_core.lattice.layout import pack_values, to_tiles
from xtrace_core.lattice.numbers import MODULI
from xtrace_core.lattice.parameters import DEGREE, MAX_NOISE, PRIMES, RANK, hint_bytes, slab_positions, slabs
from xtrace_core.lattice.portable import PortableRing

ROOT = Path(__file__).parents[2]
HARNESS = ROOT / "tests" / "unit" / "arithmetic" / "harness"
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'native'}"]

SHAPES = {
    "ifma": (52, 10, 8, 330, 80, False),
    "avx2": (51, 3, 4, 339, 87, True),
    "neon": (51, 3, 2, 339, 87, True),
}
"""limb_bits, tile, lanes, max_limbs, max_half, tables_of_doubles; the harness says whether they are right."""

PORTABLE = PortableArithmetic()
SECRET, INDEXED = 4, 8
"""Bits of the windows of a table: all entries are read, or the one that the exponent points at."""


@dataclass
class Jobs:
    """What the harness does, and what comes out if it does it right."""

    written: bytearray = field(default_factory=bytearray)
    expected: bytearray = field(default_factory=bytearray)

    def add(self, name: str, *arguments: int | NDArray[Any], results: tuple[NDArray[Any], ...] = ()) -> None:
        self.written += name.encode().ljust(16, b"\0")
        for one in arguments:
            data = struct.pack("<Q", one) if isinstance(one, int) else np.ascontiguousarray(one).tobytes()
            self.written += data if isinstance(one, int) else struct.pack("<Q", len(data)) + data
        for result in results:
            self.expected += np.ascontiguousarray(result).tobytes()


# ---- Jobs ------------------------------------------------------------------------------------------------------------


def random_rows(count: int, width: int, edges: tuple[int, ...] = ()) -> Rows:
    """Edges that fit, then random rows."""
    rng = random.Random(count * 10_000 + width)
    fitting = [edge for edge in edges if 0 <= edge < 256**width][:count]
    return as_rows([*fitting, *(rng.randrange(256**width) for _ in range(count - len(fitting)))], width)


class Kernels:
    """Jobs for the kernels of one instruction set, whether or not this machine can run it."""

    def __init__(self, name: str) -> None:
        from xtrace_core.arithmetic.compiled import CompiledArithmetic, KernelSet

        self.set = KernelSet(name, *SHAPES[name])
        self.arithmetic: Any = CompiledArithmetic(self.set)
        self.counts = (0, 1, self.set.lanes - 1, self.set.lanes, self.set.lanes + 1)

    def odd_of_limbs(self, limbs: int) -> int:
        """An odd number, not a prime, of all the bits that a modulus of so many limbs may have."""
        from xtrace_core.arithmetic.compiled import SPARE_BITS

        return (1 << (limbs * self.set.limb_bits - SPARE_BITS)) - 105

    def sizes(self) -> Iterator[int]:
        """The smallest prime that there is, and the largest of the most limbs."""
        yield (1 << 127) + 45
        yield self.odd_of_limbs(self.set.max_half)

    def ring(self, p: int) -> Any:
        return self.arithmetic.prime_square(p, 3 if p % 3 else 5)

    def powers(self, ring: Any, base: int, exponent_bytes: int, bits: int) -> list[Any]:
        square = ring.prime * ring.prime
        width = row_width(square)
        bases = [pow(base, 1 << bits * window, square) for window in range(8 * exponent_bytes // bits)]
        reduction = ring._reduction(width, ring._r)
        return [exponent_bytes, bits, width, reduction, as_rows(bases, width)]

    def linear(self, jobs: Jobs, count: int, limbs: int) -> None:
        modulus = self.odd_of_limbs(limbs)
        width = min(row_width(modulus) + 7, self.set.max_limbs * self.set.limb_bits // 8)
        rows = random_rows(count, width, (256**width - 1, 0, modulus - 1, modulus))
        multiplier = self.arithmetic.multiplier(modulus // 3, modulus, plus=modulus - 2)
        expected = PORTABLE.multiply(rows, modulus // 3, modulus, plus=modulus - 2)
        words = multiplier._prepared(width)
        jobs.add("linear", count, width, row_width(modulus), limbs, words, rows, results=(expected,))

    def fixed(self, jobs: Jobs, count: int, p: int, bits: int, exponent_bytes: int = 1) -> None:
        """A table, messages under its powers, and rows read with them."""
        ring, base = self.ring(p), p // 7
        *sizes, words = ring._ring
        powers = self.powers(ring, base, exponent_bytes, bits)
        exponents = random_rows(count, exponent_bytes, (0, 255, 16, 15))
        messages = random_rows(count, row_width(p), (p - 1, 0, p))
        table, reference = PORTABLE.fixed_base_table(base, exponent_bytes, p * p), PORTABLE.prime_square(p, ring.other)
        expected = reference.encrypt(messages, table, exponents)
        arguments = count, *sizes, words, *powers, messages.shape[1], messages, exponents
        jobs.add("fixed_encrypt", *arguments, results=(expected,))
        rows = random_rows(count, row_width(p * p), (1, p * p - 1, 0))
        own = rows.shape[1], ring._reduction(rows.shape[1], 1), ring._factor(1)
        results = reference.read(rows, table, exponents)
        jobs.add("fixed_read", count, *sizes, words, *powers, *own, rows, exponents, results=results)

    def shared(self, jobs: Jobs, count: int, p: int, exponent: int = 0x10F) -> None:
        """Powers with an exponent that all rows share."""
        from xtrace_core.arithmetic.compiled import _windows

        ring = self.ring(p)
        *sizes, words = ring._ring
        digits = _windows(exponent)
        rows = random_rows(count, row_width(p * p), (p * p - 1, 0, 1))
        messages = random_rows(count, row_width(p), (p - 1, 0))
        reference, width = PORTABLE.prime_square(p, ring.other), rows.shape[1]
        head = count, *sizes, words, len(digits), digits, width
        hidden = ring._reduction(width, ring._r), messages.shape[1], messages, rows
        jobs.add("power_encrypt", *head, *hidden, results=(reference.encrypt_power(messages, rows, exponent),))
        own = ring._reduction(width, ring._r), ring._factor(exponent)
        jobs.add("power_read", *head, *own, rows, results=reference.read_power(rows, exponent))

    def all(self, counts: tuple[int, ...], sizes: list[int], limbs: list[int]) -> Jobs:
        jobs = Jobs()
        jobs.add("shape", results=(np.array(SHAPES[self.set.name], dtype="<u8"),))
        for count in counts:
            for p in sizes:
                self.fixed(jobs, count, p, SECRET)
                self.shared(jobs, count, p)
            for of_modulus in limbs:
                self.linear(jobs, count, of_modulus)
        return jobs

    def at_boundaries(self) -> Jobs:
        """Every kernel, for no row to a group and one more, with the fewest limbs and the most, and both windows."""
        jobs = self.all(self.counts, list(self.sizes()), [self.set.tile, self.set.max_limbs])
        smallest, largest = self.sizes()
        for count in self.counts:
            self.fixed(jobs, count, smallest, INDEXED)
        self.fixed(jobs, 1, largest, INDEXED)
        return jobs


def in_plain_c(counts: tuple[int, ...], positions: tuple[int, ...]) -> Jobs:
    """Rows as bits, and comparing."""
    jobs = Jobs()
    for count in counts:
        for width in (1, 8, 9):
            rows = random_rows(count, width, (0, 256**width // 2, 256**width // 2 - 1))
            bound = 256**width // 2
            expected = PORTABLE.below(rows, bound)
            jobs.add("below", count, width, rows, as_rows([bound], width), results=(expected,))
        for length in positions:
            bits = np.random.default_rng(length).integers(0, 2, (count, length), dtype=np.uint8)
            slots, digits = PORTABLE.encode_slots(bits), PORTABLE.encode_digits(bits)
            jobs.add("encode_slots", count, length, bits, results=(slots,))
            jobs.add("encode_digits", count, length, bits, results=(digits,))
            arguments = count, slots.shape[1], length, slots
            jobs.add("count_slots", *arguments, results=PORTABLE.count_slots(slots, length))
            arguments = count, digits.shape[1], length, digits
            jobs.add("count_digits", *arguments, results=PORTABLE.count_digits(digits, length))
            jobs.add("decode_digits", *arguments, results=PORTABLE.decode_digits(digits, length))
    return jobs


def of_blocks(lanes: int, bodies: int, words: tuple[int, ...] = (1, 17)) -> Jobs:
    """Transforms, evaluations, masks and readings, for kernels with such vectors, and bodies evaluated at once."""
    jobs, rng, ring = Jobs(), np.random.default_rng(lanes), PortableRing()

    def elements(*shape: int) -> Elements:
        drawn = rng.integers(0, 1 << 62, (*shape, len(PRIMES), DEGREE), dtype=np.uint64)
        return (drawn % MODULI).astype(np.uint32)

    for count in (1, lanes, lanes + 1):
        rows = elements(count)
        for t in range(len(PRIMES)):
            for inverse, transformed in enumerate((ring.forward(rows), ring.inverse(rows))):
                jobs.add("transform", PREPARED, t, inverse, count, rows[:, t], results=(transformed[:, t],))
    for each in words:
        secret = elements(RANK)
        with_message = 2 * lanes + 1
        noise = rng.integers(0, 1 << 32, (each, DEGREE), dtype=np.uint32)
        noisy = Noisy(noise, rng.integers(0, 16, (each, with_message), dtype=np.uint8), (1, -(513**4), 77, -5))
        for count in range(1, bodies + 1):
            query, *stored = (np.frombuffer(to_tiles(elements(each)), np.uint8) for _ in range(count + 1))
            expected = ring.evaluate(4 * each, [body.data for body in stored], [query.data])
            jobs.add("evaluate", PREPARED, each, count, query, *stored, results=(expected,))
        for sums_of_noisy in (0, 1):
            matrices = elements(each, RANK), elements(each, RANK)
            tiles, sums = ring.masked(*matrices, secret, noisy, sums_of_noisy=bool(sums_of_noisy))
            weights = prepared_weights(noisy.weights)
            arguments = PREPARED, each, sums_of_noisy, *matrices, secret, with_message, noise, noisy.codes, weights
            jobs.add("mask", *arguments, results=(np.frombuffer(tiles, np.uint8), ring.forward(sums)))
    _readings(jobs, ring, lanes)
    return jobs


def _readings(jobs: Jobs, ring: PortableRing, lanes: int) -> None:
    """Two blocks, one of them with some slots, for two queries with two slabs."""
    embed_len, queries, rng = 513, 2, np.random.default_rng(lanes)
    drawn = rng.integers(0, PRIMES[0], (queries, 1 + slabs(embed_len), RANK, DEGREE)).astype(np.uint32)
    kept = QueryValues(np.ascontiguousarray(drawn[:, 0]), np.ascontiguousarray(drawn[:, 1:]))
    blocks = []
    for slots in (np.arange(2 * lanes + 1), np.array([0, 5, 1023])):
        values = rng.integers(0, 1 << 12, (queries, slabs(embed_len), len(slots)), dtype=np.uint16)
        secret = rng.integers(0, 3, RANK * DEGREE, dtype=np.uint8).tobytes()
        blocks.append(UnreadBlock(secret, rng.bytes(hint_bytes(embed_len)), slots, pack_values(values)))
    distances, valid = ring.read(embed_len, kept, blocks)
    positions = np.array(slab_positions(embed_len), np.uint64)
    head = PREPARED, len(blocks), MAX_NOISE, queries, len(positions), distances.shape[1], positions, *kept
    taken: list[int | NDArray[Any]] = []
    for one in blocks:
        taken += [len(one.slots), *one.slots.tolist()]
        taken += [np.frombuffer(part, np.uint8) for part in (one.secret, one.hints, one.values)]
    jobs.add("read", *head, *taken, results=(distances, valid))


# ---- The harness -----------------------------------------------------------------------------------------------------


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the harness keeps everything to its end
    parts = [str(part) for part in command]
    return subprocess.run(parts, cwd=ROOT, env=environment, capture_output=True, check=False)


def compiled(compiler: str | Path, *arguments: str | Path) -> None:
    done = run(compiler, *arguments)
    assert done.returncode == 0, done.stderr.decode()


def linked(folder: Path, compiler: str, sources: dict[Path, list[str]], *flags: str) -> Path:
    """A program from these sources, each with flags of its own."""
    objects = [folder / f"{source.stem}.o" for source in sources]
    for (source, own), target in zip(sources.items(), objects, strict=True):
        compiled(compiler, *FLAGS, *own, *flags, "-c", source, "-o", target)
    compiled(compiler, *flags, *objects, "-o", folder / "harness")
    return folder / "harness"


@dataclass(frozen=True)
class Harness:
    program: Path
    under: tuple[str, ...] = ()

    def run(self, jobs: Jobs, kernels: str) -> subprocess.CompletedProcess[bytes]:
        file = self.program.with_suffix(".jobs")
        file.write_bytes(jobs.written)
        return run(*self.under, self.program, file, kernels)

    def expect(self, jobs: Jobs, kernels: str) -> None:
        done = self.run(jobs, kernels)
        assert done.returncode == 0, done.stderr.decode()[:6000]
        assert done.stdout == bytes(jobs.expected)

    def expect_report(self, jobs: Jobs, kernels: str, *words: str) -> None:
        done = self.run(jobs, kernels)
        assert done.returncode != 0
        for word in words:
            assert word in done.stderr.decode()
