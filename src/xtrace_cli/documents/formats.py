"""The files that can be loaded: suffixes, formats and their readers."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import PurePath
from typing import Final

from xtrace_cli.documents.sections import Section, Source

Reader = Callable[[Source], Iterator[Section]]
EXTRA: Final = "documents"


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file."""

    name: str
    """The value of `format` in records."""
    reader: str
    """`module.function` in `readers`."""
    version: int = 1
    """Incremented when the reader's output changes, so that files are loaded again."""
    needs: tuple[str, ...] = ()
    """The optional packages that the reader imports."""

    def load_reader(self) -> Reader:
        """Returns the reader; imports its packages."""
        module, _, function = self.reader.partition(".")
        read: Reader = getattr(importlib.import_module(f"xtrace_cli.documents.readers.{module}"), function)
        return read

    @property
    def is_installed(self) -> bool:
        """Whether the reader's packages are installed."""
        return all(find_spec(package) is not None for package in self.needs)


TEXT: Final = Format("txt", "plain.read")
_STRUCTURED: Final = {
    ".md .markdown .mdown": Format("md", "markup.read_markdown"),
    ".rst": Format("rst", "markup.read_rst"),
    ".html .htm .xhtml": Format("html", "html.read"),
    ".csv": Format("csv", "tables.read_csv"),
    ".tsv": Format("tsv", "tables.read_csv"),
    ".json": Format("json", "tables.read_json"),
    ".jsonl .ndjson": Format("jsonl", "tables.read_jsonl"),
    ".ipynb": Format("ipynb", "notebook.read"),
    ".eml": Format("eml", "email.read"),
    ".py .pyi": Format("py", "plain.read_python"),
    ".pdf": Format("pdf", "pdf.read", needs=("pypdf",)),
    ".docx": Format("docx", "office.read_docx", needs=("docx", "lxml")),
    ".pptx": Format("pptx", "office.read_pptx", needs=("pptx", "lxml")),
    ".xlsx .xlsm": Format("xlsx", "office.read_xlsx", needs=("openpyxl", "lxml")),
    ".epub": Format("epub", "epub.read", needs=("lxml",)),
}
_SOURCE: Final = (
    ".adoc .bash .bat .c .cc .cfg .clj .cmake .conf .cpp .cs .css .cxx .dart .diff .el .erl .ex .exs .fish .go .gradle "
    ".graphql .groovy .h .hh .hpp .hs .ini .java .jl .js .jsx .kt .kts .less .log .lua .m .mjs .ml .mli .nim .nix .org "
    ".patch .php .pl .pm .properties .proto .ps1 .r .rb .rs .sass .scala .scss .sh .sql .svelte .swift .tcl .tex .tf "
    ".toml .ts .tsx .vb .vim .vue .xml .yaml .yml .zig .zsh"
)
_SUFFIXES: Final = {
    suffix: one for suffixes, one in [(".txt .text", TEXT), *_STRUCTURED.items()] for suffix in suffixes.split()
} | {suffix: Format(suffix[1:], "plain.read") for suffix in _SOURCE.split()}
_NAMES: Final = (
    "authors changelog changes contributing copying dockerfile install license licence makefile news notice readme todo"
)
"""Names of text files without a suffix."""


def format_of(path: PurePath) -> Format | None:
    """Returns the format of a file by its name; None if it is unknown."""
    if not path.suffix:
        return TEXT if path.name.lower() in _NAMES.split() else None
    return _SUFFIXES.get(path.suffix.lower())


def all_suffixes() -> list[str]:
    """Returns every supported suffix, in alphabetical order."""
    return sorted(_SUFFIXES)
