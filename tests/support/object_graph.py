"""Everything in memory that some objects hold, and which of it leads to a secret."""

import gc
from collections.abc import Callable, Iterable, Sequence
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
from gmpy2 import mpz

PACKAGES = ("xtrace_sdk", "xtrace_core", "xtrace_cli", "xtrace_server")
PLAIN = (int, float, complex, str, bytes, bytearray, memoryview, type(None), mpz, np.ndarray, np.generic)
CONTAINERS = (list, tuple, dict, set, frozenset)


class ObjectGraph:
    """The objects that the roots hold, directly or by way of others, each once.

    What all of a program shares is left out: classes, modules, and the globals of functions. What objects of the
    `foreign` packages hold is left out too.
    """

    def __init__(self, *roots: Any, foreign: Sequence[str] = ()) -> None:
        self.objects: dict[int, Any] = {}
        self._holders: dict[int, list[int]] = {}
        waiting = [_Holder(roots)]
        while waiting:
            holder = waiting.pop()
            for held in () if _package(holder) in foreign else _held(holder):
                if isinstance(held, type | ModuleType | BuiltinFunctionType):
                    continue
                self._holders.setdefault(id(held), []).append(id(holder))
                if id(held) not in self.objects:
                    self.objects[id(held)] = held
                    waiting.append(held)

    def leading_to(self, is_wanted: Callable[[Any], bool]) -> list[Any]:
        """The objects that are wanted, and those that hold them, directly or by way of others."""
        waiting = [key for key, one in self.objects.items() if is_wanted(one)]
        seen = set(waiting)
        while waiting:
            new = [holder for holder in self._holders[waiting.pop()] if holder in self.objects and holder not in seen]
            seen.update(new)
            waiting += new
        return [self.objects[key] for key in seen]


def is_ours(subject: Any) -> bool:
    """Whether the object's class is defined in a package of this distribution."""
    return _package(subject) in PACKAGES


def _package(subject: Any) -> str:
    return type(subject).__module__.partition(".")[0]


def is_data(subject: Any) -> bool:
    """Whether the object is a plain value, or a container of Python's own: those show what they are."""
    return type(subject) in CONTAINERS or isinstance(subject, PLAIN)


class _Holder:
    def __init__(self, held: Iterable[Any]) -> None:
        self.held = held


def _held(holder: Any) -> Iterable[Any]:
    if isinstance(holder, _Holder):
        return holder.held
    if isinstance(holder, FunctionType):
        return [holder.__closure__, holder.__defaults__, holder.__kwdefaults__]
    if isinstance(holder, PLAIN):
        return []
    return gc.get_referents(holder)
