"""Fixtures that several test packages share."""

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings

from support import databases
from support.missing_tools import missing_tools
from support.service import Http, LiveService, running_service
from xtrace_server.credentials import Credentials

settings.register_profile("tests", deadline=None)  # a busy machine is slow at times
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that two workers end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Collected tests and the objects of libraries stay: the garbage collector need not scan them each time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which tools were missing, so that nobody takes a run without them for a whole one."""
    missing = missing_tools(terminalreporter.stats.get("skipped", []))
    if missing:
        terminalreporter.section("not checked on this machine", yellow=True)
    for tool, tests in missing.items():
        terminalreporter.write_line(f"{tool} is missing: {tests} tests skipped")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    databases.on_each_database(metafunc)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture of the test, of whatever scope, starts a server."""
    arguments = getattr(item, "callspec", None)
    databases.use(arguments.params.get("database", databases.SQLITE) if arguments else databases.SQLITE)


def pytest_sessionfinish() -> None:
    databases.stop()


@pytest.fixture(scope="session")
def database(request: pytest.FixtureRequest) -> str:
    """The database of the servers that the test starts: "sqlite" or "postgres"."""
    return str(getattr(request, "param", databases.SQLITE))


@pytest.fixture(scope="session")
def live_service(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One real server for each database and the whole test run; tests keep apart by their organisations."""
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest.fixture
def credentials(live_service: LiveService) -> Credentials:
    """A fresh organisation on the real server."""
    return live_service.spare_organisation()


@pytest.fixture
def http(credentials: Credentials) -> Iterator[Http]:
    """A plain HTTP client of that organisation."""
    client = Http(credentials)
    yield client
    client.close()
