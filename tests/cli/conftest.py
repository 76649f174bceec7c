"""A shell beside the real server, as one of its organisations uses it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.inside import Inside
from support.library import RECORDS, furnish, make_keys, shell_in
from support.service import LiveService
from support.terminal import Terminal
from xtrace_cli.shell.session import Session
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


@pytest.fixture(scope="session")
def made_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of `make_keys`; the passphrase is `PASSPHRASE`."""
    folder = tmp_path_factory.mktemp("keys")
    make_keys(folder, PASSPHRASE)
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, live_service: LiveService, made_keys: Path) -> Iterator[Terminal]:
    """A shell in a folder whose knowledge base `documents` has `RECORDS`. For tests that only read them."""
    folder, credentials = tmp_path_factory.mktemp("library"), live_service.new_organisation()
    furnish(folder, credentials, made_keys, RECORDS)
    terminal = shell_in(folder)
    yield terminal
    for text in terminal.seen:
        for secret in (PASSPHRASE, WRONG_PASSPHRASE, credentials.admin_key, credentials.api_key):
            assert secret not in text
        assert "\x1b]" not in text
        assert "\x07" not in text


@pytest.fixture(scope="module")
def inside(library: Terminal) -> Iterator[Inside]:
    """Commands in the same folder, carried out in this process as the shell does: the workspace is opened once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(library.folder)
        for name, value in {
            **library.environment,
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "XTRACE_LOCAL_INDEX": "off",
        }.items():
            patch.setenv(name, value)
        with Session() as session:
            yield Inside(session, library)
