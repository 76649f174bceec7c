"""A browser without script, and a real one, before the dashboard of the shared server."""

from collections.abc import Iterator

import pytest

from support.browser import Chromium, running_chromium
from support.dashboard import Visitor
from support.service import LiveService
from xtrace_server.credentials import Credentials


@pytest.fixture
def visitor(live_service: LiveService) -> Iterator[Visitor]:
    """A browser without script that is not signed in."""
    made = Visitor(live_service.url)
    yield made
    made.close()


@pytest.fixture
def admin(visitor: Visitor, credentials: Credentials) -> Visitor:
    """The same, signed in to a fresh organisation."""
    visitor.enter(credentials)
    return visitor


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """One Chromium for a module: its event loop, which runs meanwhile, must not meet asynchronous tests elsewhere."""
    with running_chromium() as browser:
        yield browser
