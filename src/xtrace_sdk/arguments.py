"""Checks the arguments of public calls against their annotations, before anything else happens.

A class decorated with `@checked_calls`, or a function with `@checked_call`, rejects an argument of the wrong type or
out of range. The message says what was passed and what is expected. Ranges are part of the annotation: `Annotated[int,
AtLeast(1)]`. Messages show a value only if it is a number, a boolean or None: anything else may be a secret.
"""

import functools
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

import numpy as np

from xtrace_sdk.errors import InvalidArgument

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Part of an annotation: a number is not below this."""

    lowest: float


@dataclass(frozen=True, slots=True)
class AtMost:
    """Part of an annotation: a number is not above this."""

    highest: float


@dataclass(frozen=True, slots=True)
class Above:
    """Part of an annotation: a number is above this."""

    bound: float


class OwnCheck:
    """Part of an annotation: the function checks the argument itself, with a more specific message."""


MetaFilter = Annotated[Mapping[str, Any] | str, OwnCheck]
"""A metadata filter: an object, or its JSON text."""
Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Seconds = Annotated[float, Above(0)]
Fraction = Annotated[float, AtLeast(0), AtMost(1)]


@dataclass(frozen=True, slots=True)
class _Rule:
    """The values that an annotation allows; `expected` describes them in messages."""

    allows: Callable[[Any], bool]
    expected: str


@dataclass(frozen=True, slots=True)
class _Positional:
    """The parameters of a function that arguments without names fill."""

    names: list[str]
    counts: range
    """How many such arguments are enough for a call, and allowed."""


def _positional(signature: inspect.Signature) -> _Positional:
    kinds = inspect.Parameter
    filled = [
        one for one in signature.parameters.values() if one.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    ]
    needed = [one for one in filled if one.default is kinds.empty]
    others = [one for one in signature.parameters.values() if one not in filled]
    if any(one.kind is kinds.KEYWORD_ONLY and one.default is kinds.empty for one in others):
        return _Positional([], range(0))
    most = sys.maxsize if any(one.kind is kinds.VAR_POSITIONAL for one in others) else len(filled) + 1
    return _Positional([one.name for one in filled], range(len(needed), most))


def checked_call(function: C) -> C:
    """Makes the function check its arguments at each call. The function then raises `InvalidArgument`."""
    signature = inspect.signature(function)

    @functools.cache
    def rules() -> dict[str, _Rule]:
        # At the first call, when every name in the annotations is there.
        hints = typing.get_type_hints(function, include_extras=True)
        found = {name: _rule(hint) for name, hint in hints.items() if name in signature.parameters}
        return {name: rule for name, rule in found.items() if rule is not None}

    def checked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidArgument(f"{function.__qualname__}: {error}") from None
        for name, value in bound.arguments.items():
            rule = rules().get(name)
            if rule is not None:
                if signature.parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                    continue
                if not rule.allows(value):
                    raise InvalidArgument(f"{name} is {shown(value)}, expected {rule.expected}{_namesake(value, rule)}")
                if isinstance(value, str) and type(value) is not str:
                    bound.arguments[name] = str(value)  # as numpy.str_, which not every library takes
        return bound.args, bound.kwargs

    positional = _positional(signature)

    def is_plainly_right(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether `checked` would return the arguments unchanged; may be False although it would."""
        if kwargs or len(args) not in positional.counts:
            return False
        known = rules()
        for name, value in zip(positional.names, args, strict=False):
            rule = known.get(name)
            if rule is not None and (not rule.allows(value) or (isinstance(value, str) and type(value) is not str)):
                return False
        return True

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            if not is_plainly_right(args, kwargs):
                args, kwargs = checked(args, kwargs)
            return await function(*args, **kwargs)

        return cast("C", coroutine)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not is_plainly_right(args, kwargs):
            args, kwargs = checked(args, kwargs)
        return function(*args, **kwargs)

    return cast("C", call)


def _namesake(value: Any, rule: _Rule) -> str:
    """An explanation for an object whose class has the same name as the expected one."""
    if type(value).__name__ not in rule.expected.split():
        return ""
    return (
        f", but not that of {type(value).__module__.rpartition('.')[0]}: the classes of xtrace_sdk and of "
        "xtrace_sdk.sync do not mix, so import all of them from one"
    )


def checked_calls(cls: type[T]) -> type[T]:
    """Makes the class check the arguments of its own public methods and of its `__init__`."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(member):
            setattr(cls, name, checked_call(member))
        elif isinstance(member, classmethod | staticmethod):
            setattr(cls, name, type(member)(checked_call(member.__func__)))
    return cls


def shown(value: Any) -> str:
    """Returns a value for messages: numbers, booleans and None unchanged, and only the type of anything else."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str) and not value:
        return "empty"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


# Rules


def _rule(hint: Any) -> _Rule | None:
    """Returns the rule for an annotation; None if it allows anything, or cannot be checked from a value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return None
    if origin is None and hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        return None if OwnCheck in arguments else _bounded(_rule(arguments[0]), arguments[1:])
    if origin in (Union, types.UnionType):
        return _union([_rule(argument) for argument in arguments])
    if origin is Literal:
        return _Rule(
            lambda value: np.isscalar(value) and value in arguments, f"one of {', '.join(map(repr, arguments))}"
        )
    if origin is tuple:
        return _tuple(arguments)
    if origin in _OF_ELEMENTS:
        return _elements(_GENERIC[origin], _rule(arguments[0]))
    if origin in _GENERIC or hint in _GENERIC:
        return _GENERIC[hint if origin is None else origin]
    return _class(hint if origin is None else origin)


def _is_integer(value: Any) -> bool:
    return not isinstance(value, bool | np.bool_) and isinstance(value, Integral)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool | np.bool_) and isinstance(value, Real) and not math.isnan(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes | bytearray)


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping)


_PLAIN: Final[dict[Any, _Rule]] = {
    int: _Rule(_is_integer, "a whole number"),
    float: _Rule(_is_number, "a number"),
    bool: _Rule(lambda value: isinstance(value, bool | np.bool_), "True or False"),
    str: _Rule(_is_text, "a text"),
    bytes: _Rule(lambda value: isinstance(value, bytes | bytearray | memoryview), "bytes"),
    type(None): _Rule(lambda value: value is None, "None"),
    None: _Rule(lambda value: value is None, "None"),
}
_GENERIC: Final[dict[Any, _Rule]] = {
    Mapping: _Rule(lambda value: isinstance(value, Mapping), "a mapping"),
    dict: _Rule(lambda value: isinstance(value, Mapping), "a mapping"),
    Sequence: _Rule(_is_sequence, "a list"),
    list: _Rule(_is_sequence, "a list"),
    Iterable: _Rule(_is_iterable, "a list"),
    Callable: _Rule(callable, "a function"),
    os.PathLike: _Rule(lambda value: isinstance(value, os.PathLike), "a path"),
}


_OF_ELEMENTS: Final = (Sequence, list, Iterable)


def _bounded(rule: _Rule | None, bounds: Iterable[Any]) -> _Rule | None:
    for bound in bounds:
        if rule is not None and isinstance(bound, AtLeast | AtMost | Above):
            rule = _within(rule, bound)
    return rule


def _within(rule: _Rule, bound: AtLeast | AtMost | Above) -> _Rule:
    if isinstance(bound, Above):
        return _Rule(lambda value: rule.allows(value) and value > bound.bound, f"{rule.expected} above {bound.bound:g}")
    if isinstance(bound, AtMost):
        expected = f"{rule.expected}, at most {bound.highest:g}"
        return _Rule(lambda value: rule.allows(value) and value <= bound.highest, expected)
    expected = f"{rule.expected} of at least {bound.lowest:g}"
    return _Rule(lambda value: rule.allows(value) and value >= bound.lowest, expected)


def _union(rules: Sequence[_Rule | None]) -> _Rule | None:
    known = [rule for rule in rules if rule is not None]
    if len(known) < len(rules):
        return None  # anything
    expected = list(dict.fromkeys(rule.expected for rule in known))
    return _Rule(lambda value: any(rule.allows(value) for rule in known), " or ".join(expected))


def _tuple(arguments: tuple[Any, ...]) -> _Rule:
    rules = [_rule(argument) for argument in arguments]

    def allows(value: Any) -> bool:
        if not _is_sequence(value) or len(value) != len(rules):
            return False
        return all(rule is None or rule.allows(one) for rule, one in zip(rules, value, strict=True))

    inside = [rule.expected for rule in rules if rule is not None]
    return _Rule(allows, f"{len(rules)} elements: {', '.join(inside)}")


def _elements(rule: _Rule, element: _Rule | None) -> _Rule:
    """Returns the rule, including that of each element if iterating does not consume the value."""
    if element is None:
        return rule

    def allows(value: Any) -> bool:
        if not rule.allows(value):
            return False
        return not isinstance(value, Sequence | np.ndarray | set | frozenset) or all(map(element.allows, value))

    return _Rule(allows, f"{rule.expected}, each element {element.expected}")


def _class(cls: Any) -> _Rule | None:
    if not inspect.isclass(cls) or cls is object:
        return None
    if getattr(cls, "_is_protocol", False) and not getattr(cls, "_is_runtime_protocol", False):
        return None
    return _Rule(lambda value: isinstance(value, cls), f"{'an' if cls.__name__[0] in 'AEIOU' else 'a'} {cls.__name__}")
