"""Which backend works here, and why.

The compiled module reports what the processor can do (only native/dispatch.c detects it). `XTRACE_ARITHMETIC` forces a
backend by name. `XTRACE_THREADS` sets the number of threads that share a batch, by default one for each processor that
this process may use. `XTRACE_CONSTANT_TIME=1` hides secret exponents from the processor's caches.
"""

import os
from collections.abc import Mapping

from xtrace_core.arithmetic.interface import Arithmetic
from xtrace_core.arithmetic.portable import PortableArithmetic

NAMES = ("ifma", "avx2", "neon", "portable")
"""All backends, fastest first."""

_INTERFACE = 2
"""Of the compiled module that this code calls; also in native/module.c."""

_INSTRUCTIONS = {"ifma": "AVX-512 IFMA", "avx2": "AVX2", "neon": "NEON"}


def backends(threads: int, constant_time: bool = False) -> dict[str, Arithmetic]:
    """The backends that run on this machine, fastest first."""
    found: dict[str, Arithmetic] = {}
    if not why_not_compiled():
        from xtrace_core.arithmetic.compiled import CompiledArithmetic, kernel_sets

        found = {kernels.name: CompiledArithmetic(kernels, threads, constant_time) for kernels in kernel_sets()}
    return {**found, "portable": PortableArithmetic(constant_time)}


def why_not_compiled() -> str:
    """Empty if the compiled module is installed and fits this code; otherwise why it is not used."""
    try:
        from xtrace_core.arithmetic import _native
    except ImportError as error:
        return f"the compiled module is not installed ({error})"
    if not hasattr(_native, "interface") or _native.interface() != _INTERFACE:
        return "the compiled module is of another version; rebuild it with pip install --editable '.[all]'"
    return ""


def choose(environment: Mapping[str, str]) -> tuple[Arithmetic, str]:
    """Returns the backend to use, and why. Raises `RuntimeError` if the forced backend does not run here."""
    here = backends(thread_count(environment), _constant_time(environment))
    forced = environment.get("XTRACE_ARITHMETIC", "")
    if forced:
        if forced not in here:
            reason = why_not_compiled() or "this processor cannot run it"
            known = ", ".join(here)
            raise RuntimeError(f"XTRACE_ARITHMETIC is {forced[:32]!r}, expected one of {known}: {reason}")
        return here[forced], "XTRACE_ARITHMETIC says so"
    name, backend = next(iter(here.items()))
    if name in _INSTRUCTIONS:
        return backend, f"this processor has {_INSTRUCTIONS[name]}"
    return backend, why_not_compiled() or "this processor has neither AVX-512 IFMA nor AVX2 nor NEON"


def _constant_time(environment: Mapping[str, str]) -> bool:
    text = environment.get("XTRACE_CONSTANT_TIME", "")
    if text not in ("", "0", "1"):
        raise RuntimeError(f"XTRACE_CONSTANT_TIME is {text[:32]!r}, expected 0 or 1")
    return text == "1"


def thread_count(environment: Mapping[str, str]) -> int:
    """Returns how many threads share a batch. Raises `RuntimeError` if `XTRACE_THREADS` is not valid."""
    text = environment.get("XTRACE_THREADS", "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 64:
        raise RuntimeError(f"XTRACE_THREADS is {text[:32]!r}, expected a number from 1 to 64")
    return int(text)
