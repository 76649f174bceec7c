"""Fixtures that several test packages share."""

from collections.abc import Iterator

import pytest

from support.service import Http, LiveService, running_service
from xtrace_server.credentials import Credentials


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that two workers end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def live_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One real server for the whole test run; tests keep apart by their organisations."""
    with running_service(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


@pytest.fixture
def credentials(live_service: LiveService) -> Credentials:
    """A fresh organisation on the real server."""
    return live_service.new_organisation()


@pytest.fixture
def http(credentials: Credentials) -> Iterator[Http]:
    """A plain HTTP client of that organisation."""
    client = Http(credentials)
    yield client
    client.close()
