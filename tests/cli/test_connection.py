"""Where the commands find the service and its keys, and what they say when they do not."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.service import LiveService
from support.terminal import COMMAND, Terminal
from xtrace_server.credentials import Credentials, write_credentials


@pytest.fixture
def saved(shell: Terminal, live_service: LiveService) -> Callable[[str], Credentials]:
    """Writes the credentials of a fresh organisation, which has a knowledge base named after the file."""

    def save(file: str) -> Credentials:
        credentials = live_service.new_organisation()
        path = shell.folder / file
        path.parent.mkdir(exist_ok=True)
        write_credentials(path, credentials)
        assert shell(f"kb create {file} --credentials {file}").status == 0
        return credentials

    return save


def names(shell: Terminal, line: str = "", **variables: str) -> list[str]:
    return [kb["name"] for kb in shell(f"kb list --json {line}", **variables).json]


def test_the_nearest_credentials_are_used(shell: Terminal, saved: Callable[[str], Credentials]) -> None:
    saved("xtrace-data/credentials.json")
    saved("variable.json")
    saved("option.json")
    environment = saved("environment.json")
    assert names(shell) == ["xtrace-data/credentials.json"]
    assert names(shell, XTRACE_CREDENTIALS="variable.json") == ["variable.json"]
    assert names(shell, "--credentials option.json", XTRACE_CREDENTIALS="variable.json") == ["option.json"]
    keys = {"XTRACE_ADMIN_KEY": environment.admin_key, "XTRACE_ORG_ID": environment.org_id}
    assert names(shell, "--credentials option.json", **keys) == ["environment.json"]
    (shell.folder / "xtrace-data" / "credentials.json").unlink()
    assert names(shell, **keys, XTRACE_API_URL=environment.api_url) == ["environment.json"]


def test_a_file_may_lack_what_its_owner_does_not_have(shell: Terminal, saved: Callable[[str], Credentials]) -> None:
    whole = saved("whole.json")
    write_credentials(shell.folder / "part.json", Credentials(whole.org_id, "", whole.api_key, whole.api_url))
    assert shell("context list --credentials part.json --json").json == []
    shell("kb list --credentials part.json").fails("this needs the organisation's admin key", status=2)


def test_missing_credentials_are_one_sentence(shell: Terminal) -> None:
    shell("kb list").fails("this needs the organisation's id: set XTRACE_ORG_ID", status=2)
    shell("kb list", XTRACE_ORG_ID="some").fails("admin key: set XTRACE_ADMIN_KEY", status=2)
    shell("context list", XTRACE_ORG_ID="some").fails("an API key: set XTRACE_API_KEY", status=2)
    shell("kb list --credentials nowhere.json").fails("nowhere.json: No such file or directory")
    (shell.folder / "broken.json").write_text('{"admin_key": "secret-of-mine", ')
    broken = shell("kb list --credentials broken.json")
    broken.fails("broken.json does not contain credentials")
    assert "secret-of-mine" not in broken.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_one_sentence(shell: Terminal) -> None:
    (shell.folder / "private.json").touch(mode=0)
    shell("kb list --credentials private.json").fails("Permission denied")


def test_a_wrong_key_is_one_sentence_without_the_key(xtrace: Terminal, credentials: Credentials) -> None:
    # The address beside the key, because the one of the folder gets no key from elsewhere.
    xtrace.environment["XTRACE_API_URL"] = credentials.api_url
    for line in ("kb list", "kb create x", "keys list", "keys create x"):
        refused = xtrace(line, XTRACE_ADMIN_KEY="wrong-admin-key")
        refused.fails("key")
        assert "wrong-admin-key" not in refused.err
    refused = xtrace("context list", XTRACE_API_KEY="wrong-api-key")
    refused.fails("key")
    assert "wrong-api-key" not in refused.err
    refused = xtrace("kb list", XTRACE_ADMIN_KEY="two\nlines")
    refused.fails("admin_key has surrounding spaces, or characters that keys do not contain")


def test_a_dead_server_is_one_sentence(xtrace: Terminal) -> None:
    for line in ("kb list", "keys list", "context list", "kb delete x --yes"):
        xtrace(line, XTRACE_API_URL="http://127.0.0.1:1").fails("cannot reach http://127.0.0.1:1")
    xtrace("kb list", XTRACE_API_URL="ftp://nowhere").fails("is not a URL")


def test_keys_are_no_arguments(xtrace: Terminal) -> None:
    for line in ("kb list --admin-key x", "kb list --api-key x", "context show f --passphrase x"):
        refused = xtrace(line)
        assert refused.status == 2
        assert "No such option" in refused.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_one_sentence(xtrace: Terminal) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, "kb", "list"], cwd=xtrace.folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode != 0
    assert done.stderr.startswith("xtrace: the output cannot be written: No space left on device\n")
    assert "Traceback" not in done.stderr
