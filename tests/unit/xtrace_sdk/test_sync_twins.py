"""The synchronous twins are what the script writes, and as their asynchronous cores in everything but waiting."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tools.sync_twins import (
    FOLDER,
    RENAMED,
    SUBCLASSED,
    TWINS,
    WORDING,
    members,
    public_attributes,
    reworded,
    written_anew,
)

import xtrace_sdk
from xtrace_sdk import sync

CORES = {name: getattr(importlib.import_module(module), name) for module, names in TWINS.items() for name in names}
CLASSES = {name: core for name, core in CORES.items() if inspect.isclass(core)}


def twin_of(name: str) -> Any:
    return getattr(sync, name)


def is_asynchronous(member: Any) -> bool:
    function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def pairs() -> Iterator[tuple[str, Any, Any]]:
    """Every function and method of the cores, with that of the twin."""
    for name, core in CORES.items():
        if not inspect.isclass(core):
            yield name, core, twin_of(name)
            continue
        for member, defined in members(core).items():
            is_kept = name in SUBCLASSED and not is_asynchronous(defined)
            if not is_kept and not isinstance(defined, property) and callable(getattr(core, member)):
                renamed = RENAMED.get(member, member)
                yield f"{name}.{member}", getattr(core, member), getattr(twin_of(name), renamed, None)


PAIRS = {name: (core, twin) for name, core, twin in pairs()}


def test_the_files_are_what_the_script_writes() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("_*.py") if "Made by" in path.read_text()} == (
        written_anew()
    ), "stale: run scripts/sync-twins"


def test_every_twin_is_exported() -> None:
    assert sorted([*CORES, "run"]) == sorted(sync.__all__)


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_and_its_twin_have_the_same_members(name: str) -> None:
    core = CLASSES[name]
    (tree,) = ast.parse(inspect.getsource(core)).body
    assert isinstance(tree, ast.ClassDef)
    attributes = [
        attribute
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__" and name not in SUBCLASSED
        for attribute in public_attributes(node)
    ]
    expected = {RENAMED.get(member, member) for member in [*members(core), *attributes]}
    own = set(members(twin_of(name))) - (set() if name in SUBCLASSED else {"of", "asynchronous"})
    assert own | set(RENAMED.values()) & set(vars(twin_of(name))) == expected


@pytest.mark.parametrize("name", PAIRS)
def test_a_call_and_its_twin_have_the_same_parameters_and_defaults(name: str) -> None:
    core, twin = PAIRS[name]
    given, expected = inspect.signature(twin).parameters.values(), inspect.signature(core).parameters.values()
    assert [(one.name, one.kind, one.default) for one in given] == [
        (one.name, one.kind, one.default) for one in expected
    ]


@pytest.mark.parametrize("name", [*PAIRS, *CLASSES])
def test_docstrings_are_carried_over(name: str) -> None:
    core, twin = PAIRS.get(name) or (CLASSES[name], twin_of(name))
    if (core.__doc__ or "").startswith("Initialize self"):
        return  # `object`'s
    assert (twin.__doc__ or "") == reworded(core.__doc__ or "")
    assert not re.search(r"\basync\b|\bawait(ed)?\b|asyncio|asynchronous context|event loop", twin.__doc__ or ""), (
        "reword"
    )


@pytest.mark.parametrize("name", PAIRS)
def test_no_twin_is_asynchronous(name: str) -> None:
    assert not is_asynchronous(PAIRS[name][1])


def test_no_wording_is_replaced_in_vain() -> None:
    docstrings = [core.__doc__ or "" for core in [*CORES.values(), *(core for core, _ in PAIRS.values())]]
    for asynchronous in WORDING:
        assert any(asynchronous in docstring for docstring in docstrings), asynchronous


def test_whatever_is_public_and_asynchronous_has_a_twin() -> None:
    for name in xtrace_sdk.__all__:
        thing = getattr(xtrace_sdk, name)
        has_calls = inspect.isclass(thing) and any(map(is_asynchronous, members(thing).values()))
        if has_calls or is_asynchronous(thing):
            assert name in sync.__all__
            assert CORES[name] is thing
