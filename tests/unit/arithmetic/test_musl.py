"""The kernels compiled against musl, the C library of Alpine Linux, and run here, against the portable backend."""

import shutil
import sysconfig
from pathlib import Path

import pytest

from support.kernel_jobs import FLAGS, HARNESS, ROOT, Harness, Kernels, compiled, in_plain_c, linked, of_blocks
from support.missing_tools import skip_without
from unit.arithmetic.test_build import FLAGS as OF_KERNELS
from unit.arithmetic.test_constant_time import AVX2
from xtrace_core.arithmetic.backends import why_not_compiled

COMPILER = shutil.which("musl-gcc")
SETS = ("ifma", "vnni", "avx2")

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def musl(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    skip_without("a compiler for musl (musl-tools)", COMPILER)
    skip_without("the compiled module", not why_not_compiled())
    skip_without("a processor with AVX2", AVX2)
    sources = {ROOT / "native" / name: ["-O2"] for name in ("slots.c", "digits.c", "lattice.c")}
    sources[ROOT / "native" / "avx2.c"] = ["-O2", *OF_KERNELS["avx2"]]
    sources[HARNESS / "harness.c"] = ["-O1", "-DXTRACE_HAVE_AVX2"]
    return Harness(linked(tmp_path_factory.mktemp("musl"), str(COMPILER), sources, "-static"))


def test_kernels_at_the_boundaries_of_their_sizes(musl: Harness) -> None:
    musl.expect(Kernels("avx2").at_boundaries(), "avx2")


def test_rows_as_bits(musl: Harness) -> None:
    musl.expect(in_plain_c((0, 1, 3, 4, 5), (1, 39, 40, 41, 5120)), "none")


@pytest.mark.parametrize(("name", "lanes", "bodies"), [("avx2", 4, 2), ("none", 1, 1)])
def test_encrypted_blocks(musl: Harness, name: str, lanes: int, bodies: int) -> None:
    musl.expect(of_blocks(lanes, bodies), name)


def test_the_whole_module_compiles(tmp_path: Path) -> None:
    skip_without("a compiler for musl (musl-tools)", COMPILER)
    headers = Path(sysconfig.get_paths()["include"])
    skip_without("Python's header files", (headers / "Python.h").exists())
    have = [f"-DXTRACE_HAVE_{name.upper()}" for name in SETS]
    objects = []
    for source in sorted((ROOT / "native").glob("*.c")):
        if source.stem != "neon":
            objects.append(tmp_path / f"{source.stem}.o")
            own = ["-O0", "-fPIC", "-DPy_LIMITED_API=0x030b0000", *have, *OF_KERNELS.get(source.stem, [])]
            compiled(str(COMPILER), *FLAGS, *own, f"-I{headers}", "-c", source, "-o", objects[-1])
    compiled(str(COMPILER), "-shared", *objects, "-o", tmp_path / "_native.abi3.so")
