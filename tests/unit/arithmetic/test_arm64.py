"""The kernels for 64-bit ARM, compiled here and run under QEMU, against the portable backend.

The same jobs as under the sanitizers: every kernel at the boundaries of its sizes, and rows as bits.
"""

import shutil

import pytest

from support.kernel_jobs import HARNESS, ROOT, Harness, Kernels, in_plain_c, linked, of_blocks
from support.missing_tools import skip_without
from xtrace_core.arithmetic.backends import why_not_compiled

COMPILER = shutil.which("aarch64-linux-gnu-gcc")
QEMU = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    skip_without("a compiler for 64-bit ARM (gcc-aarch64-linux-gnu)", COMPILER)
    skip_without("an emulator of 64-bit ARM (qemu-user)", QEMU)
    skip_without("the compiled module", not why_not_compiled())
    sources = {ROOT / "native" / name: ["-O2"] for name in ("neon.c", "slots.c", "digits.c", "lattice.c")}
    sources[HARNESS / "harness.c"] = ["-O1", "-DXTRACE_HAVE_NEON"]
    program = linked(tmp_path_factory.mktemp("arm64"), str(COMPILER), sources, "-static")
    return Harness(program, (str(QEMU),))


def test_kernels_at_the_boundaries_of_their_sizes(emulated: Harness) -> None:
    emulated.expect(Kernels("neon").at_boundaries(), "neon")


def test_rows_as_bits(emulated: Harness) -> None:
    emulated.expect(in_plain_c((0, 1, 3, 4, 5), (1, 39, 40, 41, 5120)), "none")


@pytest.mark.parametrize(("name", "lanes", "bodies"), [("neon", 2, 2), ("none", 1, 1)])
def test_encrypted_blocks(emulated: Harness, name: str, lanes: int, bodies: int) -> None:
    emulated.expect(of_blocks(lanes, bodies), name)
