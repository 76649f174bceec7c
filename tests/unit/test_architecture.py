"""The packages import only what they may; above all, no server code reaches what can hold a secret key."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "src" / "xtrace_server"
PACKAGES = ("xtrace_core", "xtrace_sdk", "xtrace_server", "xtrace_cli")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def reachable(graph: grimp.ImportGraph, package: str) -> set[str]:
    """The packages that some module of this one imports, directly or by way of others."""
    modules = graph.find_upstream_modules(package, as_package=True)
    return {module.partition(".")[0] for module in modules}


def test_the_server_cannot_reach_a_module_that_can_hold_a_secret_key(graph: grimp.ImportGraph) -> None:
    assert reachable(graph, "xtrace_server") == {"xtrace_core"}


def test_client_and_core_know_no_server(graph: grimp.ImportGraph) -> None:
    assert reachable(graph, "xtrace_sdk") == {"xtrace_core"}
    assert reachable(graph, "xtrace_core") == set()


def test_the_check_would_notice_such_an_import(graph: grimp.ImportGraph) -> None:
    assert reachable(graph, "xtrace_cli") == {"xtrace_core", "xtrace_sdk", "xtrace_server"}


def test_every_module_of_the_server_loads_without_the_client() -> None:
    """The same at run time, where an import inside a function or by name would show; what needs Ray where it is."""
    left_out = (".migrations.",) if find_spec("ray") else (".migrations.", ".search.ray.")
    code = (
        "import sys, pkgutil, importlib, xtrace_server\n"
        "for module in pkgutil.walk_packages(xtrace_server.__path__, 'xtrace_server.'):\n"
        f"    if not any(part in module.name for part in {left_out}): importlib.import_module(module.name)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules if name.startswith('xtrace_')}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "['xtrace_core', 'xtrace_server']"


def test_routes_open_no_transaction() -> None:
    """What happens in one belongs into an operation, which a dashboard and the command line call too."""
    outside = [*(SERVER / "api").rglob("*.py"), *(SERVER / "http").rglob("*.py"), SERVER / "app.py"]
    assert [file.name for file in outside if re.search(r"database\.(read|write)\(", file.read_text())] == []
    assert re.search(r"database\.(read|write)\(", (SERVER / "operations" / "chunks.py").read_text())


DATABASES = {"sqlite", "postgresql", "SQLite", "PostgreSQL", "psycopg", "aiosqlite"}


def decisions(file: Path) -> list[ast.AST]:
    """Where code compares something with the name of a kind of database, or compares a connection's."""
    compared = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Compare | ast.Match)]
    return [
        node
        for node in compared
        if "dialect.name" in ast.unparse(node)
        or any(isinstance(part, ast.Constant) and part.value in DATABASES for part in ast.walk(node))
    ]


def test_only_the_folder_of_a_database_knows_its_kind() -> None:
    """Elsewhere nothing is decided by the name of a database, but in migrations, which are of one day for good."""
    storage = SERVER / "storage"
    own = [storage / "sqlite", storage / "postgres", storage / "migrations"]
    files = [file for file in SERVER.rglob("*.py") if not any(file.is_relative_to(folder) for folder in own)]
    assert {str(file): decisions(file) for file in files if decisions(file)} == {}
    assert decisions(storage / "migrations" / "versions" / "0001_first.py")


def test_every_package_says_that_it_is_typed() -> None:
    for package in PACKAGES:
        assert (ROOT / "src" / package / "py.typed").exists()


def test_changelog_and_distribution_name_the_same_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert newest.split()[1] == project["version"] == version("xtracedb")


def test_operations_write_only_for_a_caller_whose_key_still_holds() -> None:
    """`writing` and `operating` check that; an import runs on the host alone, without a key."""
    for file in (SERVER / "operations").glob("*.py"):
        if file.name not in ("writing.py", "moving.py"):
            assert "database.write()" not in file.read_text(), file.name
