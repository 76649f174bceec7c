"""Whether kernels in C branch, or touch memory, where a secret says so; and what the sanitizers say of them.

`harness/harness.c` runs kernels on jobs that are written here, and everything in a job but its sizes is secret. Under
valgrind's memcheck secrets count as undefined, so each branch and each address that depends on one is reported
(Langley, "ctgrind"). Valgrind knows no AVX-512: those kernels are compiled over `harness/avx512`, the same instructions
in plain C. The sanitizers see all kernels at their boundaries: no row, one, groups that are not full, full, and one
more; the fewest limbs and the most.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.kernel_jobs import (
    COMPILER,
    HARNESS,
    INDEXED,
    ROOT,
    Harness,
    Jobs,
    Kernels,
    in_plain_c,
    linked,
    of_blocks,
    run,
)
from support.missing_tools import skip_without
from xtrace_core.arithmetic.backends import backends, why_not_compiled

DEBUGGED = ["-g1", "-fPIC", "-Wno-psabi"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

VALGRIND = shutil.which("valgrind")
MEMCHECK = ["--quiet", "--leak-check=no", "--error-exitcode=9"]
AVX2 = "avx2" in backends(threads=1)
NAMES = ("ifma", "avx2")
BLOCKS = (("ifma", 8, 2), ("avx2", 4, 2), ("none", 1, 1))
"""Kernels for encrypted blocks, the lanes of each, and the bodies that it evaluates at once."""

pytestmark = pytest.mark.long


def compiles(folder: Path, text: str, *flags: str) -> bool:
    assert COMPILER
    (folder / "small.c").write_text(text)
    return run(COMPILER, *flags, folder / "small.c", "-o", folder / "small").returncode == 0


def build(folder: Path, *flags: str) -> Path:
    """The harness with all kernels that this machine can run, those for AVX-512 in plain C."""
    assert COMPILER
    sources: dict[Path, list[str]] = {HARNESS / "harness.c": ["-O1", "-DXTRACE_HAVE_IFMA"]}
    sources |= {ROOT / "native" / name: ["-O2"] for name in ("slots.c", "digits.c")}  # as a release is compiled
    sources[ROOT / "native" / "lattice.c"] = ["-O3"]
    sources[ROOT / "native" / "ifma.c"] = ["-O1", f"-I{HARNESS / 'avx512'}"]
    if AVX2:
        sources[HARNESS / "harness.c"].append("-DXTRACE_HAVE_AVX2")
        sources[ROOT / "native" / "avx2.c"] = ["-O2", "-mavx2", "-mfma"]
    return linked(folder, COMPILER, sources, *DEBUGGED, *flags)


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
    @pytest.mark.parametrize("name", NAMES)
    def test_no_branch_and_no_address_depends_on_a_secret(self, memcheck: Harness, name: str) -> None:
        kernels = for_kernels(name)
        sizes, limbs = [(1 << 127) + 45, kernels.odd_of_limbs(2 * kernels.set.tile)], [2 * kernels.set.tile]
        memcheck.expect(kernels.all((kernels.set.lanes + 1,), sizes, limbs), name)

    def test_nor_where_rows_are_bits(self, memcheck: Harness) -> None:
        memcheck.expect(in_plain_c((1, 5), (1, 33, 121)), "none")

    @pytest.mark.parametrize(("name", "lanes", "bodies"), BLOCKS)
    def test_nor_in_encrypted_blocks(self, memcheck: Harness, name: str, lanes: int, bodies: int) -> None:
        skip_without("a processor with AVX2", AVX2 or name != "avx2")
        memcheck.expect(of_blocks(lanes, bodies, words=(lanes + 1,)), name)

    @pytest.mark.parametrize("name", NAMES)
    def test_an_indexed_table_is_reported(self, memcheck: Harness, name: str) -> None:
        kernels, jobs = for_kernels(name), Jobs()
        kernels.fixed(jobs, 1, (1 << 127) + 45, INDEXED)
        memcheck.expect_report(jobs, name, "Use of uninitialised value", "index_entries", "fixed_encrypt", "fixed_read")

    def test_a_branch_is_reported(self, memcheck: Harness) -> None:
        secret = np.array([1], dtype=np.uint8)
        memcheck.expect_report(planted("planted_branch", secret), "none", "Conditional jump", "planted_branch")


class TestSanitizers:
    @pytest.mark.parametrize("name", NAMES)
    def test_kernels_at_the_boundaries_of_their_sizes(self, sanitized: Harness, name: str) -> None:
        sanitized.expect(for_kernels(name).at_boundaries(), name)

    def test_rows_as_bits(self, sanitized: Harness) -> None:
        sanitized.expect(in_plain_c((0, 1, 3, 4, 5), (1, 39, 40, 41, 5120)), "none")

    @pytest.mark.parametrize(("name", "lanes", "bodies"), BLOCKS)
    def test_encrypted_blocks(self, sanitized: Harness, name: str, lanes: int, bodies: int) -> None:
        skip_without("a processor with AVX2", AVX2 or name != "avx2")
        sanitized.expect(of_blocks(lanes, bodies), name)

    def test_an_overrun_and_an_undefined_shift_are_reported(self, sanitized: Harness) -> None:
        secret = np.ones(16, dtype=np.uint8)
        sanitized.expect_report(planted("planted_overrun", 16, secret), "none", "heap-buffer-overflow")
        sanitized.expect_report(planted("planted_shift", 64), "none", "shift exponent 64 is too large")
