"""The build: kernels under sanitizers, and the choice among them."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support.missing_tools import needs, skip_without
from xtrace_core.arithmetic import arithmetic, describe
from xtrace_core.arithmetic.backends import NAMES, backends, choose, why_not_compiled

ROOT = Path(__file__).parents[3]
COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
FLAGS = {
    "ifma": [f"-m{name}" for name in ("avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512ifma", "avx512vbmi")],
    "vnni": ["-mavx512f", "-mavx512bw", "-mavx512vnni"],
    "avx2": ["-mavx2", "-mfma"],
}
UNDER_SANITIZERS = ("test_kernels.py", "test_nibbles.py", "test_lattice_rings.py")
needs_compiler = needs("a C compiler", COMPILER)


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    parts = [str(part) for part in command]
    changed = {**os.environ, **(environment or {})}
    done = subprocess.run(parts, cwd=cwd, env=changed, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def alone(folder: Path) -> str:
    """A PYTHONPATH for `python -S` that has the packages in this folder before all others: an editable installation's
    own finder, which would come first, is not even loaded then."""
    installed = [path for path in sys.path if Path(path).name == "site-packages"]
    return os.pathsep.join((str(folder), str(ROOT / "src"), *installed))


@needs_compiler
def test_where_there_is_a_compiler_there_is_the_compiled_module() -> None:
    # The build falls back silently; this says so.
    assert why_not_compiled() == ""
    assert set(backends(threads=1)) <= set(NAMES)


class TestChoice:
    def test_the_fastest_backend_is_chosen(self) -> None:
        here = list(backends(threads=1))
        assert choose({})[0].name == here[0]
        assert here == [name for name in NAMES if name in here]

    def test_the_environment_forces_one(self) -> None:
        for name in backends(threads=1):
            backend, reason = choose({"XTRACE_ARITHMETIC": name})
            assert backend.name == name
            assert reason == "XTRACE_ARITHMETIC says so"

    def test_one_that_is_not_here_is_refused_with_those_that_are(self) -> None:
        with pytest.raises(RuntimeError, match=r"abacus.*expected one of .*portable"):
            choose({"XTRACE_ARITHMETIC": "abacus"})

    @pytest.mark.parametrize("threads", ["0", "65", "-1", "two", "²"])
    def test_numbers_of_threads_that_are_none(self, threads: str) -> None:
        with pytest.raises(RuntimeError, match="XTRACE_THREADS"):
            choose({"XTRACE_THREADS": threads})

    def test_the_environment_asks_for_constant_time(self) -> None:
        for text, on in (("", False), ("0", False), ("1", True)):
            for name in backends(threads=1):
                chosen = choose({"XTRACE_ARITHMETIC": name, "XTRACE_CONSTANT_TIME": text})[0]
                assert chosen.constant_time is on
        assert not choose({})[0].constant_time

    def test_what_is_neither_yes_nor_no(self) -> None:
        with pytest.raises(RuntimeError, match="XTRACE_CONSTANT_TIME is 'yes', expected 0 or 1"):
            choose({"XTRACE_CONSTANT_TIME": "yes"})

    def test_the_description_says_whether_it_is_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for on in (True, False):
            monkeypatch.setattr(arithmetic, "constant_time", on)
            assert (", constant time: " in describe()) is on

    def test_the_description_says_which_and_why(self) -> None:
        assert describe().startswith(arithmetic.name)
        assert ": " in describe()

    def test_without_the_module_the_portable_backend_works_and_says_why(self, tmp_path: Path) -> None:
        shutil.copytree(ROOT / "src" / "xtrace_core", tmp_path / "xtrace_core", ignore=shutil.ignore_patterns("*.so"))
        here = {
            "PYTHONPATH": alone(tmp_path),
            "XTRACE_ARITHMETIC": "",
            "XTRACE_THREADS": "",
            "XTRACE_CONSTANT_TIME": "",
        }
        said = run(sys.executable, "-S", "-c", _DESCRIBE, cwd=tmp_path, environment=here)
        assert said.startswith("portable, 1 thread: the compiled module is not installed")

    def test_a_module_of_another_version_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from xtrace_core.arithmetic import _native

        monkeypatch.setattr(_native, "interface", lambda: 1)
        assert list(backends(threads=1)) == ["portable"]
        assert "of another version; rebuild it" in choose({})[1]


@pytest.mark.long
@needs_compiler
def test_kernels_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    assert COMPILER
    skip_without("a processor with AVX2 or AVX-512 IFMA", len(backends(threads=1)) > 1)
    runtime = subprocess.run(
        [COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    skip_without("the compiler's libasan.so", Path(runtime).is_absolute() and Path(runtime).exists())
    package = tmp_path / "xtrace_core"
    shutil.copytree(ROOT / "src" / "xtrace_core", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    flags = ["-g", "-O1", "-std=gnu11", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    objects: list[Path] = []
    for source in sorted((ROOT / "native").glob("*.c")):
        if source.stem == "neon":
            continue  # for another processor: test_arm64.py
        objects.append(tmp_path / f"{source.stem}.o")
        own = [*FLAGS.get(source.stem, []), *(f"-DXTRACE_HAVE_{name.upper()}" for name in FLAGS)]
        include = sysconfig.get_paths()["include"]
        run(COMPILER, *flags, *own, "-Wall", "-Wextra", "-Werror", f"-I{include}", "-c", source, "-o", objects[-1])
    run(COMPILER, "-shared", *flags, *objects, "-lpthread", "-o", package / "arithmetic" / "_native.abi3.so")
    environment = {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python itself leaks at its end
        "PYTHONPATH": alone(tmp_path),
        "XTRACE_ARITHMETIC": "",
        "PYTHONMALLOC": "malloc",  # so that a byte past the end of a buffer is seen
    }
    which = "import xtrace_core; print(xtrace_core.__file__)"
    where = run(sys.executable, "-S", "-c", which, cwd=tmp_path, environment=environment)
    assert where.startswith(str(tmp_path))
    tests = [ROOT / "tests" / "unit" / "arithmetic" / name for name in UNDER_SANITIZERS]
    kernels = "not 1280 and not 1536 and not 2048 and not 3072 and not lock"  # the code is the same for all
    output = run(
        sys.executable,
        *("-S", "-m", "pytest", *map(str, tests), "-q", "-p", "no:cacheprovider", "-k", kernels),
        environment=environment,
    )
    assert " passed" in output
    assert "skipped" not in output


_DESCRIBE = "from xtrace_core.arithmetic import describe; print(describe())"
