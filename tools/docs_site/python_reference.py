"""The Python reference: one entry for each public name, which mkdocstrings fills in from its docstrings."""

import importlib
import inspect
from typing import Any, Final

_PAGES: Final = {
    "sdk": (
        "Python SDK",
        "xtrace_sdk",
        "Everything that `xtrace_sdk` exports. `xtrace_sdk.sync` has the same names, without `async` and `await`.",
    ),
    "memory": ("Memory for agents (Python)", "xtrace_sdk.x_mem", "Everything that `xtrace_sdk.x_mem` exports."),
    "errors": (
        "Exceptions",
        "xtrace_sdk.errors",
        "Everything that the SDK raises. [Errors](../errors.md) says what to do about each.",
    ),
}


def pages() -> dict[str, str]:
    """Returns the pages, by their path in the site."""
    return {f"reference/{name}.md": _page(*described) for name, described in _PAGES.items()}


def _page(title: str, module: str, introduction: str) -> str:
    entries = "\n\n".join(f"::: {path}" for path in _paths(module))
    return f"# {title}\n\n{introduction}\n\n{entries}\n"


def _paths(module: str) -> list[str]:
    """Returns where each class and function that a module exports is defined, sorted by name."""
    imported = importlib.import_module(module)
    names = sorted(name for name in _exported(imported) if not name.startswith("_"))
    found = {name: getattr(imported, name) for name in names}
    return [
        f"{one.__module__}.{one.__qualname__}"
        for one in found.values()
        if inspect.isclass(one) or inspect.isfunction(one)
    ]


def _exported(module: Any) -> list[str]:
    """Returns the names in `__all__`, or those that the module itself defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [name for name, one in vars(module).items() if getattr(one, "__module__", "") == module.__name__]
