"""The synchronous twins of the asynchronous classes, as source: `scripts/sync-twins` writes `xtrace_sdk/sync/`.

Every twin is a thin layer with the signature, the types and the docstring of what stands behind it, so type checkers
and editors know it as well as if it had been written by hand. What no rule here covers is an error.
"""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).parents[1] / "src" / "xtrace_sdk" / "sync"

TWINS = {
    "xtrace_sdk.collection.collection": ("Collection",),
    "xtrace_sdk.service.integration": ("XTraceIntegration",),
    "xtrace_sdk.x_vec.upkeep.audit.fetching": ("fetch_samples",),
    "xtrace_sdk.x_vec.data_loaders.loader": ("DataLoader",),
    "xtrace_sdk.x_vec.inference.embedding": ("Embedding",),
    "xtrace_sdk.x_vec.inference.llm": ("InferenceClient",),
    "xtrace_sdk.x_mem.extraction": ("LanguageModel",),
    "xtrace_sdk.x_mem.memory": ("Memory",),
    "xtrace_sdk.x_vec.retrievers.retriever": ("Retriever",),
    "xtrace_sdk.x_vec.upkeep.copying": ("copy_knowledge_base",),
    "xtrace_sdk.x_vec.upkeep.manifest": ("write_manifest",),
    "xtrace_sdk.x_vec.upkeep.rotation": ("rotate",),
    "xtrace_sdk.x_vec.stored.sealing": ("seal_chunks",),
    "xtrace_sdk.x_vec.contexts.execution_context": ("ContextStore", "NamedContextStore", "ExecutionContext"),
    "xtrace_sdk.x_vec.chunks.vectors": ("Embedder", "FloatEmbedder"),
    "xtrace_sdk.x_vec.upkeep.verification": ("delete_bad", "verify"),
}
SUBCLASSED = ("ExecutionContext",)
"""Mostly synchronous as they are: the twin is a subclass, taken wherever the class itself is, of which calls differ."""
RENAMED = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
WORDING = {
    "Can be used as an asynchronous context manager": "Can be used as a context manager",
    "from several event loops": "from several threads",
    "Calls of `embed` and `bin_embed` that are awaited together (by `asyncio.gather`, or by the data loader)": (
        "The texts of one call of `embed_many` and `bin_embed_many`"
    ),
    " Loading and computation run outside the event loop.": "",
    "If the call is cancelled,": "If Ctrl-C ends the call,",
    "or an awaitable of one, such as `bin_embed_many(…)`": "such as the result of `bin_embed_many(…)`",
}
"""What docstrings say that is otherwise here."""

_OF_TWIN = {"__eq__", "__hash__", "__reduce_ex__"}
"""What `Twin` itself asks the core."""
_SPECIAL = ("__init__", "__repr__", *RENAMED)
"""The methods with a meaning of their own that have twins."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def module_name(source: str) -> str:
    """The module of the twins of a module's classes."""
    return "_" + source.rpartition(".")[2]


def reworded(docstring: str) -> str:
    """The docstring as it stands in the twin."""
    for asynchronous, synchronous in WORDING.items():
        docstring = docstring.replace(asynchronous, synchronous)
    return docstring


def members(cls: type) -> dict[str, Any]:
    """The public members of a class and of its bases in the SDK, as they are defined; renamed ones by the old name."""
    found: dict[str, Any] = {}
    for base in _bases(cls):
        for name, member in vars(base).items():
            if not name.startswith("_") or (name in _SPECIAL and inspect.isfunction(member)):
                found.setdefault(name, member)
    return found


def written_anew() -> dict[str, str]:
    """Each file of the twins with its text."""
    return {f"{module_name(source)}.py": _formatted(_File(source).text()) for source in TWINS}


def _bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.startswith("xtrace_sdk.")]


def _formatted(code: str) -> str:
    for arguments in (["check", "--quiet", "--fix", "--select", "I"], ["format", "--quiet"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(FOLDER / "_twin.py"), "-"]
        code = subprocess.run(command, input=code, capture_output=True, text=True, check=True).stdout
    return code


@dataclass
class _Source:
    """A module as it is written."""

    module: ModuleType
    tree: ast.Module = field(init=False)
    imported: dict[str, tuple[str, str]] = field(init=False)
    """Where each imported name comes from: module, and name in it (empty for the module itself)."""

    def __post_init__(self) -> None:
        self.tree = ast.parse(inspect.getsource(self.module))
        self.imported = {}
        for node in self.tree.body:
            if isinstance(node, ast.ImportFrom):
                self.imported |= {a.asname or a.name: (node.module or "", a.name) for a in node.names}
            elif isinstance(node, ast.Import):
                self.imported |= {a.asname or a.name: (a.name, "") for a in node.names}

    def origin(self, name: str) -> tuple[str, str]:
        return self.imported.get(name, (self.module.__name__, name))

    def definition(self, name: str) -> Any:
        return next(node for node in self.tree.body if getattr(node, "name", None) == name)


class _File:
    """The twins of one module."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._imports: set[str] = set()

    def text(self) -> str:
        source = _Source(importlib.import_module(self._source))
        body = "\n\n".join(self._twin(source, name) for name in TWINS[self._source])
        package, _, module = self._source.rpartition(".")
        if re.search(r"\bcore\.", body):
            self._imports.add(f"from {package} import {module} as core")
        for helper in ("Twin", "close_when_dropped", "core_of", "in_threads", "iterate", "run", "run_or_iterate"):
            if re.search(rf"\b{helper}\b[(\[]", body):
                self._imports.add(f"from xtrace_sdk.sync._background import {helper}")
        title = f'"""Made by `scripts/sync-twins` from `{self._source}`: change that, and run the script."""'
        return "\n".join([title, "", *sorted(self._imports), "", "", body])

    def _twin(self, source: _Source, name: str) -> str:
        original = getattr(source.module, name)
        node = source.definition(name)
        if isinstance(node, Function):
            return self._function(source, node, f"core.{name}", inspect.isasyncgenfunction(original))
        if getattr(original, "_is_protocol", False):
            self._imports.add("from typing import Protocol, runtime_checkable")
            return self._class(
                f"@runtime_checkable\nclass {name}(Protocol):", node, self._members(original, "...", is_protocol=True)
            )
        if name in SUBCLASSED:
            lines = ["    __slots__ = ()", *self._members(original, "super()", only_asynchronous=True)]
            return self._class(f"class {name}(core.{name}):", node, lines)
        special = {
            name for base in _bases(original) for name, member in vars(base).items() if _is_special(name, member)
        } - _OF_TWIN
        assert special <= set(_SPECIAL), f"no rule for {special - set(_SPECIAL)} of {original}"
        lines = [*self._members(original, "self._core"), *self._attributes(source, node)]
        return self._class(f"class {name}(Twin[core.{name}]):", node, lines)

    def _class(self, head: str, node: ast.ClassDef, lines: list[str]) -> str:
        return "\n".join([head, _docstring(node), "", "\n\n".join(lines)])

    def _members(
        self, cls: type, core: str, *, only_asynchronous: bool = False, is_protocol: bool = False
    ) -> list[str]:
        lines = []
        seen: set[str] = set()
        for base in _bases(cls):
            source = _Source(importlib.import_module(base.__module__))
            nodes = [node for node in source.definition(base.__name__).body if isinstance(node, Function)]
            for node in [node for node in nodes if node.name not in seen and node.name in members(cls)]:
                seen.update([] if _is_overload(node) else [node.name])
                if only_asynchronous and not isinstance(node, ast.AsyncFunctionDef):
                    continue
                lines.append(self._method(source, cls, node, core, is_protocol))
        return lines

    def _method(self, source: _Source, cls: type, node: Function, core: str, is_protocol: bool) -> str:
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        assert set(decorators) <= {"overload", "property", "staticmethod", "classmethod"}, node.name
        is_generator = inspect.isasyncgenfunction(inspect.unwrap(getattr(cls, node.name)))
        if "overload" in decorators:
            self._imports.add("from typing import overload")
        head = self._head(source, node, is_generator)
        if is_protocol or "overload" in decorators:
            code = self._function(source, node, None, is_generator)
        elif node.name == "__init__":
            code = head + self._construction(source, cls, node)
        elif node.name == "__aenter__":
            code = head + "\n        run(self._core.__aenter__())\n        return self"
        elif node.name == "__repr__":
            code = head + "\n        return repr(self._core)"
        elif "classmethod" in decorators and core != "super()":
            code = head + self._making(source, cls, node)
        elif isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) == "Self":
            code = head + self._derived(source, node)
        elif "property" in decorators:
            code = head + f"\n        return {core}.{node.name}"
        else:
            target = f"core.{cls.__name__}" if "staticmethod" in decorators else core
            code = self._function(source, node, f"{target}.{node.name}", is_generator)
        if core == "super()":
            code = code.replace("(", "(  # type: ignore[override]\n", 1)
        return "\n".join([*(f"    @{decorator}" for decorator in decorators), code])

    def _construction(self, source: _Source, cls: type, node: Function) -> str:
        lines = [f"self._core = core.{cls.__name__}({self._passed(source, node)})"]
        given = [one.arg for one in [*node.args.args[1:], *node.args.kwonlyargs] if self._twin_in(source, one)]
        if given:
            lines.append(f"self._held = [{', '.join(given)}]  # a twin that is dropped closes its connections")
        if "aclose" in members(cls):
            lines.append("close_when_dropped(self, self._core.aclose)")
        return "".join(f"\n        {line}" for line in lines)

    def _making(self, source: _Source, cls: type, node: Function) -> str:
        """A class method that waits, and gives an object of the class: its twin is made around it."""
        assert isinstance(node, ast.AsyncFunctionDef), f"no rule for the class method {node.name}"
        assert node.returns, node.name
        assert ast.unparse(node.returns) == "Self", f"no rule for the class method {node.name}"
        lines = ["twin = cls.__new__(cls)"]
        lines.append(f"twin._core = run(core.{cls.__name__}.{node.name}({self._passed(source, node)}))")
        given = [one.arg for one in [*node.args.args[1:], *node.args.kwonlyargs] if self._twin_in(source, one)]
        lines.append(f"twin._held = [{', '.join(given)}]")
        return "".join(f"\n        {line}" for line in [*lines, "return twin"])

    def _derived(self, source: _Source, node: ast.FunctionDef) -> str:
        """A method that gives another object of the class: its twin keeps this one."""
        lines = [
            f"twin = type(self).of(self._core.{node.name}({self._passed(source, node)}))",
            "twin._held = self._held",
        ]
        return "".join(f"\n        {line}" for line in [*lines, "return twin"])

    def _function(self, source: _Source, node: Function, target: str | None, is_generator: bool) -> str:
        head = self._head(source, node, is_generator)
        if target is None:
            return head + f"\n{_indent(node)}..."
        call = f"{target}({self._passed(source, node)})"
        if isinstance(node, ast.AsyncFunctionDef):
            runner = "iterate" if is_generator else "run_or_iterate" if _may_give_items(node) else "run"
            call = f"{runner}({call})"
        return head + f"\n{_indent(node)}return {call}"

    def _head(self, source: _Source, node: Function, is_generator: bool = False) -> str:
        """The signature, and the docstring if there is one."""
        for part in ast.walk(ast.Module([node.args, node.returns], [])):  # type: ignore[list-item]
            if isinstance(part, ast.Name):
                self._import(source, part.id)
        assert node.returns, node.name
        returns = ast.unparse(node.returns)
        if is_generator:
            assert returns.startswith("AsyncGenerator["), f"{node.name}: expected AsyncGenerator"
        if is_generator or _may_give_items(node):
            self._imports.add("from collections.abc import Generator")
            returns = returns.replace("AsyncGenerator", "Generator", 1)
        indent = " " * node.col_offset
        name = RENAMED.get(node.name, node.name)
        lines = [f"{indent}def {name}({ast.unparse(node.args)}) -> {returns}:", _docstring(node)]
        return "\n".join(line for line in lines if line)

    def _passed(self, source: _Source, node: Function) -> str:
        """The arguments, as they are given on to the core."""
        given = node.args
        is_method = node.col_offset and not any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
        positional = [*given.posonlyargs, *given.args][1 if is_method else 0 :]
        passed = [self._converted(source, argument) for argument in positional]
        passed += [f"*{given.vararg.arg}"] if given.vararg else []
        passed += [f"{argument.arg}={self._converted(source, argument)}" for argument in given.kwonlyargs]
        passed += [f"**{given.kwarg.arg}"] if given.kwarg else []
        return ", ".join(passed)

    def _converted(self, source: _Source, argument: ast.arg) -> str:
        """A twin becomes its core, and a plain object of a protocol's one that can be awaited."""
        twin = self._twin_in(source, argument)
        if twin is None:
            return argument.arg
        if getattr(twin, "_is_protocol", False):
            return f"in_threads({argument.arg}, {twin.__name__})"
        return f"core_of({argument.arg})"

    def _twin_in(self, source: _Source, argument: ast.arg) -> Any:
        """What in the argument's type has a twin, if anything has."""
        assert argument.annotation, argument.arg
        for part in ast.walk(argument.annotation):
            if isinstance(part, ast.Name) and self._has_twin(*source.origin(part.id)):
                module, name = source.origin(part.id)
                return getattr(importlib.import_module(module), name)
        return None

    def _attributes(self, source: _Source, node: ast.ClassDef) -> Iterator[str]:
        """A property for each public attribute that the core's `__init__` sets from an argument of its name."""
        for init in node.body:
            if isinstance(init, ast.FunctionDef) and init.name == "__init__":
                types = {a.arg: a.annotation for a in [*init.args.args, *init.args.kwonlyargs]}
                for name in public_attributes(init):
                    annotation = types[name]
                    assert annotation, f"no type is known of the attribute {name}"
                    head = f"    @property\n    def {name}(self) -> {ast.unparse(annotation)}:"
                    yield f'{head}\n        """As given."""\n        return self._core.{name}'

    def _import(self, source: _Source, name: str) -> None:
        if hasattr(__import__("builtins"), name):
            return
        module, original = source.origin(name)
        if self._has_twin(module, original):
            if module != self._source:
                self._imports.add(f"from xtrace_sdk.sync.{module_name(module)} import {original}")
        elif not original:
            self._imports.add(f"import {module}" if module == name else f"import {module} as {name}")
        elif name != "AsyncGenerator":
            self._imports.add(f"from {module} import {original}" + (f" as {name}" if name != original else ""))

    def _has_twin(self, module: str, name: str) -> bool:
        return name in TWINS.get(module, ()) and name not in SUBCLASSED


def public_attributes(init: ast.FunctionDef) -> list[str]:
    """The attributes without an underscore that `__init__` sets."""
    targets = [target for node in init.body if isinstance(node, ast.Assign) for target in node.targets]
    targets += [node.target for node in init.body if isinstance(node, ast.AnnAssign)]
    return [target.attr for target in targets if isinstance(target, ast.Attribute) and target.attr[0] != "_"]


def _is_special(name: str, member: Any) -> bool:
    return name.startswith("__") and inspect.isfunction(member)


def _may_give_items(node: Function) -> bool:
    """Whether what is awaited may be an asynchronous generator: its twin returns a plain one then."""
    return isinstance(node, ast.AsyncFunctionDef) and "AsyncGenerator" in ast.unparse(node.returns or node.args)


def _is_overload(node: Function) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def _indent(node: Function | ast.ClassDef) -> str:
    return " " * (node.col_offset + 4)


def _docstring(node: Function | ast.ClassDef) -> str:
    text = ast.get_docstring(node, clean=False)
    return "" if text is None else f'{_indent(node)}"""{reworded(text)}"""'


if __name__ == "__main__":
    for name, text in written_anew().items():
        (FOLDER / name).write_text(text)
    sys.exit(0)
