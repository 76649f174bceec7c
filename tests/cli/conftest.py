"""A shell beside the real server, as one of its organisations uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.service import LiveService
from support.terminal import Terminal
from xtrace_server.credentials import Credentials, write_credentials

PASSPHRASE = "correct horse battery staple"
WRONG_PASSPHRASE = "incorrect horse"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Terminal]:
    """A shell in an empty folder that knows no server. Whatever was printed, no passphrase was."""
    terminal = Terminal(tmp_path)
    yield terminal
    for text in terminal.seen:
        assert PASSPHRASE not in text
        assert WRONG_PASSPHRASE not in text


@pytest.fixture
def xtrace(shell: Terminal, credentials: Credentials) -> Iterator[Terminal]:
    """A shell in a folder that has the credentials of a fresh organisation where they are looked for."""
    (shell.folder / "xtrace-data").mkdir()
    write_credentials(shell.folder / "xtrace-data" / "credentials.json", credentials)
    yield shell
    for text in shell.seen:
        assert credentials.admin_key not in text
        assert credentials.api_key not in text


@pytest.fixture
def operator(shell: Terminal, live_service: LiveService) -> Terminal:
    """A shell on the server's host; the server runs."""
    shell.environment["XTRACE_DATA"] = str(live_service.folder)
    return shell
