"""Whether kernels in C branch, or touch memory, where a secret says so; and what the sanitizers say of them.

`harness/harness.c` runs kernels on jobs that are written here, and everything in a job but its sizes is secret. Under
valgrind's memcheck secrets count as undefined, so each branch and each address that depends on one is reported
(Langley, "ctgrind"). Valgrind knows no AVX-512: those kernels are compiled over `harness/avx512`, the same instructions
in plain C. The sanitizers see all kernels at their boundaries: no row, one, groups that are not full, full, and one
more; the fewest limbs and the most.
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
import pytest
from numpy.typing import NDArray

from support.missing_tools import skip_without
from xtrace_core.arithmetic import Rows, as_rows, row_width
from xtrace_core.arithmetic.backends import backends, why_not_compiled
from xtrace_core.arithmetic.portable import PortableArithmetic

ROOT = Path(__file__).parents[3]
HARNESS = Path(__file__).with_name("harness")
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
FLAGS = ["-g1", "-fPIC", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", f"-I{ROOT / 'native'}"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

VALGRIND = shutil.which("valgrind")
MEMCHECK = ["--quiet", "--leak-check=no", "--error-exitcode=9"]
AVX2 = "avx2" in backends(threads=1)

SHAPES = {"ifma": (52, 10, 8, 330, 80), "avx2": (27, 8, 4, 640, 160)}
"""limb_bits, tile, lanes, max_limbs, max_half; the harness says whether they are right."""

pytestmark = pytest.mark.long

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


# ---- The harness -----------------------------------------------------------------------------------------------------


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # the harness keeps everything to its end
    parts = [str(part) for part in command]
    return subprocess.run(parts, cwd=ROOT, env=environment, capture_output=True, check=False)


def compiled(*arguments: str | Path) -> None:
    assert COMPILER
    done = run(COMPILER, *arguments)
    assert done.returncode == 0, done.stderr.decode()


def compiles(folder: Path, text: str, *flags: str) -> bool:
    assert COMPILER
    (folder / "small.c").write_text(text)
    return run(COMPILER, *flags, folder / "small.c", "-o", folder / "small").returncode == 0


def build(folder: Path, *flags: str) -> Path:
    """The harness with all kernels that this machine can run, those for AVX-512 in plain C."""
    sources: dict[Path, list[str]] = {HARNESS / "harness.c": ["-O1", "-DXTRACE_HAVE_IFMA"]}
    sources |= {ROOT / "native" / name: ["-O2"] for name in ("slots.c", "digits.c")}  # as a release is compiled
    sources[ROOT / "native" / "ifma.c"] = ["-O1", f"-I{HARNESS / 'avx512'}"]
    if AVX2:
        sources[HARNESS / "harness.c"].append("-DXTRACE_HAVE_AVX2")
        sources[ROOT / "native" / "avx2.c"] = ["-O2", "-mavx2"]
    objects = [folder / f"{source.stem}.o" for source in sources]
    for (source, own), target in zip(sources.items(), objects, strict=True):
        compiled(*FLAGS, *own, *flags, "-c", source, "-o", target)
    compiled(*flags, *objects, "-o", folder / "harness")
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


def planted(name: str, *arguments: int | NDArray[Any]) -> Jobs:
    jobs = Jobs()
    jobs.add(name, *arguments)
    return jobs


def for_kernels(name: str) -> Kernels:
    if name == "avx2":
        skip_without("a processor with AVX2", AVX2)
    return Kernels(name)


def require_compiler() -> None:
    skip_without("a C compiler", COMPILER)
    skip_without("the compiled module", not why_not_compiled())


@pytest.fixture(scope="module")
def memcheck(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    require_compiler()
    skip_without("valgrind", VALGRIND)
    folder = tmp_path_factory.mktemp("memcheck")
    header = "#include <valgrind/memcheck.h>\nint main(void) { return 0; }\n"
    skip_without("valgrind's header files", compiles(folder, header))
    return Harness(build(folder), (str(VALGRIND), *MEMCHECK))


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    require_compiler()
    folder = tmp_path_factory.mktemp("sanitizers")
    found = compiles(folder, "int main(void) { return 0; }\n", *SANITIZE)
    skip_without("the compiler's address and undefined-behaviour sanitizers", found)
    return Harness(build(folder, *SANITIZE))


class TestSecrets:
    @pytest.mark.parametrize("name", SHAPES)
    def test_no_branch_and_no_address_depends_on_a_secret(self, memcheck: Harness, name: str) -> None:
        kernels = for_kernels(name)
        sizes, limbs = [(1 << 127) + 45, kernels.odd_of_limbs(2 * kernels.set.tile)], [2 * kernels.set.tile]
        memcheck.expect(kernels.all((kernels.set.lanes + 1,), sizes, limbs), name)

    def test_nor_where_rows_are_bits(self, memcheck: Harness) -> None:
        memcheck.expect(in_plain_c((1, 5), (1, 33, 121)), "none")

    @pytest.mark.parametrize("name", SHAPES)
    def test_an_indexed_table_is_reported(self, memcheck: Harness, name: str) -> None:
        kernels, jobs = for_kernels(name), Jobs()
        kernels.fixed(jobs, 1, (1 << 127) + 45, INDEXED)
        memcheck.expect_report(jobs, name, "Use of uninitialised value", "index_entries", "fixed_encrypt", "fixed_read")

    def test_a_branch_is_reported(self, memcheck: Harness) -> None:
        secret = np.array([1], dtype=np.uint8)
        memcheck.expect_report(planted("planted_branch", secret), "none", "Conditional jump", "planted_branch")


class TestSanitizers:
    @pytest.mark.parametrize("name", SHAPES)
    def test_kernels_at_the_boundaries_of_their_sizes(self, sanitized: Harness, name: str) -> None:
        sanitized.expect(for_kernels(name).at_boundaries(), name)

    def test_rows_as_bits(self, sanitized: Harness) -> None:
        sanitized.expect(in_plain_c((0, 1, 3, 4, 5), (1, 39, 40, 41, 5120)), "none")

    def test_an_overrun_and_an_undefined_shift_are_reported(self, sanitized: Harness) -> None:
        secret = np.ones(16, dtype=np.uint8)
        sanitized.expect_report(planted("planted_overrun", 16, secret), "none", "heap-buffer-overflow")
        sanitized.expect_report(planted("planted_shift", 64), "none", "shift exponent 64 is too large")
