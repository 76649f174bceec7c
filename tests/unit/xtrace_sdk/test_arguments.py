"""Arguments of every public call are checked at once, by type and range, with one sentence."""

import asyncio
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import xtrace_sdk
from xtrace_sdk import arguments, sync
from xtrace_sdk.arguments import Above, AtLeast, OwnCheck, Positive, checked_call, checked_calls, shown
from xtrace_sdk.errors import InvalidArgument

VALUES: dict[str, Any] = {
    "None": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "a float": 1.5,
    "NaN": math.nan,
    "a number as text": "3",
    "an empty text": "",
    "bytes": b"abc",
    "a list": ["x"],
    "a list of numbers": [1.5],
    "a mapping": {"a": 1},
    "a set of bytes": {b"x"},
    "an object": object(),
    "a class": dict,
    "a path": Path("x"),
    "a decimal": Decimal("1.5"),
    "an array": np.zeros((2, 2)),
}


def takes(function: Any, *values: Any, **named: Any) -> Any:
    return checked_call(function)(*values, **named)


@pytest.mark.parametrize(
    ("hint", "good", "bad", "expected"),
    [
        (int, [0, -3, np.int64(3)], [True, 1.0, "1", None, np.bool_(True)], "a whole number"),
        (Positive, [1, np.int32(7)], [0, -1, 1.5, True], "a whole number of at least 1"),
        (Annotated[float, Above(0)], [0.5, 3, np.float32(1)], [0, -1.0, math.nan, "1", True], "a number above 0"),
        (Annotated[int, AtLeast(0)] | None, [None, 0], [-1, "x"], "a whole number of at least 0 or None"),
        (bool, [True, np.bool_(False)], [0, 1, "yes", None], "True or False"),
        (str, ["", "x", np.str_("y")], [b"x", 1, None, ["x"]], "a text"),
        (bytes, [b"", bytearray(b"x"), memoryview(b"x")], ["x", 1], "bytes"),
        (Literal["a", "b"], ["a", np.str_("b")], ["c", 1, None, ["a"]], "one of 'a', 'b'"),
        (Mapping[str, Any], [{}, {1: 2}], [[], "x", None], "a mapping"),
        (Sequence[str], [[], ("x",)], ["x", [1], b"x", {"x"}], "a list, each element a text"),
        (Sequence[int], [[1], np.array([1, 2])], [[1.5], [True], "12"], "a list, each element a whole number"),
        (Iterable[int], [[1], {2}, (i for i in "x"), range(3)], ["12", {"a": 1}, [None]], "a list, each element"),
        (tuple[int, int], [(1, 2), [3, 4]], [(1,), (1, 2, 3), (1, "2"), 1], "2 elements: a whole number"),
        (Callable[[int], object], [print, lambda n: n], [1, "x"], "a function"),
        (Path, [Path("x")], ["x"], "a Path"),
    ],
)
def test_what_an_annotation_allows(hint: Any, good: list[Any], bad: list[Any], expected: str) -> None:
    def function(value: Any) -> Any:
        return value

    function.__annotations__["value"] = hint
    for value in good:
        assert takes(function, value) is value or isinstance(value, np.str_)
    for value in bad:
        with pytest.raises(InvalidArgument) as raised:
            takes(function, value)
        assert str(raised.value).startswith(f"value is {shown(value)}, expected {expected}")


@pytest.mark.parametrize("hint", [Any, object, str | Any, Annotated[int, OwnCheck]])
def test_what_is_not_checked(hint: Any) -> None:
    def function(value: Any) -> Any:
        return value

    function.__annotations__["value"] = hint
    for value in VALUES.values():
        assert takes(function, value) is value


def test_texts_of_other_classes_become_plain_ones() -> None:
    def function(value: str) -> str:
        return value

    assert type(takes(function, np.str_("text"))) is str


def test_a_message_shows_numbers_and_nothing_else() -> None:
    for value in ("a secret", b"a secret", ["a secret"], {"a secret": 1}, np.array(["a secret"])):
        assert "secret" not in shown(value)
    assert [shown(value) for value in (3, 1.5, None, True, "")] == ["3", "1.5", "None", "True", "empty"]


def test_missing_and_unknown_arguments_are_one_sentence_too() -> None:
    def function(one: int, *, two: int = 2) -> int:
        return one + two

    for values, named in (((), {}), ((1,), {"three": 3}), ((1, 2), {})):
        with pytest.raises(InvalidArgument, match="function: "):
            takes(function, *values, **named)


async def test_calls_stay_what_they_are() -> None:
    @checked_calls
    class Thing:
        """A class."""

        def __init__(self, size: int) -> None:
            self.size = size

        async def later(self, count: int) -> int:
            """Doubles."""
            return 2 * count

        @classmethod
        def made(cls, size: int) -> Any:
            return cls(size)

        @staticmethod
        def still(size: int) -> int:
            return size

        def _own(self, count: int) -> int:
            return count

    assert inspect.iscoroutinefunction(Thing.later)
    assert (Thing.later.__doc__, Thing.__doc__) == ("Doubles.", "A class.")
    assert await Thing(1).later(2) == 4
    assert (Thing.made(3).size, Thing.still(4)) == (3, 4)
    assert Thing(1)._own("x") == "x"  # type: ignore[arg-type, comparison-overlap]
    for call in (lambda: Thing("x"), lambda: Thing.made("x"), lambda: Thing.still("x")):  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="size is a str"):
            call()


# Every public call


def public_calls() -> Iterator[tuple[str, Any, bool]]:
    """`(name, function, whether it takes self or cls)` of everything in the front door that can be called."""
    for name in xtrace_sdk.__all__:
        thing = getattr(xtrace_sdk, name)
        if inspect.isfunction(thing):
            yield name, thing, False
        elif inspect.isclass(thing) and thing.__module__.startswith("xtrace_sdk") and not _is_plain_value(thing):
            for member_name in dir(thing):
                member = inspect.getattr_static(thing, member_name)
                if member_name.startswith("_") and member_name != "__init__":
                    continue
                if isinstance(member, classmethod | staticmethod):
                    yield f"{name}.{member_name}", member.__func__, isinstance(member, classmethod)
                elif inspect.isfunction(member):
                    yield f"{name}.{member_name}", member, True


def _is_plain_value(cls: type) -> bool:
    return (
        issubclass(cls, Exception)
        or hasattr(cls, "__dataclass_fields__")
        or getattr(cls, "_is_protocol", False)
        or issubclass(cls, tuple | list)
        or hasattr(cls, "__struct_fields__")
    )


INTERNAL = {"ExecutionContext.__init__"}
"""Calls that are for the SDK itself, as their docstrings say."""
CALLS = {name: (function, takes_self) for name, function, takes_self in public_calls() if name not in INTERNAL}


def a_value_for(hint: Any) -> Any:
    """Some value that the annotation allows."""
    rule = arguments._rule(hint)
    if rule is None:
        return None
    candidates = [1, "a text", True, {}, [], (1, 2), b"x", 1.5, None, print, Path("x"), *_instances()]
    return next(value for value in candidates if rule.allows(value))


def _instances() -> list[Any]:
    """One of each class that public calls take."""
    provider = xtrace_sdk.PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    context = xtrace_sdk.ExecutionContext.create(provider, "paillier", 8, 256, insecure_allow_weak_parameters=True)
    integration = xtrace_sdk.XTraceIntegration("org", "key", api_url="http://127.0.0.1:9")
    return [provider, context, integration, xtrace_sdk.Retries(), xtrace_sdk.LoadSummary()]


@pytest.mark.parametrize("name", CALLS)
def test_every_public_call_refuses_wrong_values_before_anything_happens(name: str) -> None:
    function, takes_self = CALLS[name]
    signature = inspect.signature(function)
    hints = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    parameters = [one for one in signature.parameters.values() if one.name not in ("self", "cls")]
    good = {
        one.name: a_value_for(hints.get(one.name, Any))
        for one in parameters
        if one.default is inspect.Parameter.empty and one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
    }
    first = [object()] if takes_self else []
    for parameter in parameters:
        rule = arguments._rule(hints.get(parameter.name, Any))
        if rule is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        for value in VALUES.values():
            if rule.allows(value):
                continue
            with pytest.raises(InvalidArgument, match=f"^{parameter.name} is "):
                made(function, *first, **{**good, parameter.name: value})


def made(function: Any, *values: Any, **named: Any) -> None:
    """Makes the call, to its end if it is asynchronous."""
    result = function(*values, **named)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def test_the_synchronous_twins_refuse_them_too() -> None:
    xtrace = sync.XTraceIntegration("org", "key", api_url="http://127.0.0.1:9")
    with xtrace, pytest.raises(InvalidArgument, match=r"^kb_id is a dict, expected a text"):
        xtrace.get_kb({})  # type: ignore[arg-type]
