"""Where settings come from, and that a folder's files cannot fetch keys from elsewhere."""

import itertools
import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from support.terminal import Terminal
from xtrace_cli.errors import UntrustedFolder, WrongUse
from xtrace_cli.options.allowed import allow
from xtrace_cli.options.connection import known_connection
from xtrace_cli.options.settings import Settings
from xtrace_sdk.errors import XTraceError

NAMES = {"api_url": "XTRACE_API_URL", "org_id": "XTRACE_ORG_ID", "admin_key": "XTRACE_ADMIN_KEY"}
SOMEWHERE = "http://127.0.0.1:1"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, of somebody with a home of their own and nothing in the environment."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("XTRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    return folder


def known(org: str) -> dict[str, str]:
    """What leads to an organisation of that id."""
    return {"api_url": SOMEWHERE, "org_id": org, "admin_key": f"the key of {org}"}


def write(file: Path, settings: Mapping[str, str], profile: str = "default") -> None:
    """Writes the settings in the form that a file of this name has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        file.write_text(json.dumps(settings))
    elif file.suffix == ".toml":
        lines = "".join(f'{one} = "{text}"\n' for one, text in settings.items())
        file.write_text(f"[profiles.{profile}]\n{lines}")
    else:
        file.write_text("".join(f"XTRACE_{one.upper()}={text}\n" for one, text in settings.items()))


def user_file() -> Path:
    return Path.home() / ".config" / "xtrace" / "xtrace.toml"


def org() -> str:
    """The id of the organisation that a command would work with; with an address and a key that go together."""
    connection = known_connection(None)
    connection.integration(("org_id", "admin_key"))
    assert connection.text("admin_key") == f"the key of {connection.text('org_id')}"
    return connection.text("org_id")


def test_the_nearest_source_counts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / "xtrace-data" / "credentials.json", known("default"))
    assert org() == "default"
    write(user_file(), known("user"))
    assert org() == "user"
    write(here / "xtrace.toml", known("folder"))
    assert org() == "folder"
    write(here / ".env", known("dotenv"))
    assert org() == "dotenv"
    for name, value in known("environment").items():
        monkeypatch.setenv(NAMES[name], value)
    assert org() == "environment"


def test_a_profile_is_chosen_by_name(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(user_file(), known("work"), "work")
    write(here / "xtrace.toml", known("home"), "home")
    assert Settings("work").text("org_id") == "work"
    monkeypatch.setenv("XTRACE_PROFILE", "work")
    assert Settings("home").text("org_id") == "home"
    assert Settings().text("org_id") == "work"
    monkeypatch.delenv("XTRACE_PROFILE")
    assert Settings().text("org_id") is None
    (here / ".env").write_text("XTRACE_PROFILE=work\n")
    assert Settings().text("org_id") == "work"
    with pytest.raises(WrongUse, match=r"the profile wrok does not exist .*: did you mean work\?"):
        Settings("wrok")


def test_the_option_chooses_a_profile(shell: Terminal) -> None:
    for line in ("--profile wrok usage", "usage --profile wrok", "kb list --profile=wrok --json"):
        shell(line).fails("the profile wrok does not exist", status=2)
    assert "the profile" not in shell("search -- --profile wrok").err  # what is asked, not an option


def test_a_file_names_a_credentials_file_beside_it(here: Path) -> None:
    write(user_file().with_name("mine.json"), known("mine"))
    write(user_file(), {"credentials": "mine.json"})
    assert org() == "mine"


def test_the_dotenv_is_read_as_others_write_it(here: Path) -> None:
    (here / ".env").write_bytes(
        f"\ufeff# settings\r\nexport XTRACE_API_URL='{SOMEWHERE}'\r\n"
        'XTRACE_ORG_ID = "mine" # ours\r\n'
        "OTHER=$(anything at all\r\nXTRACE_KB=\r\nXTRACE_ADMIN_KEY='the key of mine'\r\n".encode()
    )
    assert org() == "mine"


def test_a_dotenv_cannot_read_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a-secret-of-the-user")
    write(here / ".env", {"api_url": SOMEWHERE + "/${SECRET}"})
    assert Settings().text("api_url") == SOMEWHERE + "/${SECRET}"


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (".env", b"XTRACE_KB='no end\n", ".env is not valid at line 1: expected NAME=VALUE"),
        (".env", b"XTRACE_KB=\xff\n", ".env is not valid UTF-8"),
        (".env", b"#" * ((1 << 20) + 1), "expected a regular file of at most 1 MiB"),
        ("xtrace.toml", b"[profiles.default\n", "xtrace.toml is not valid TOML: "),
        ("xtrace.toml", b"profiles = 3\n", "expected [profiles.NAME]"),
        ("xtrace.toml", b"[profiles]\ndefault = 3\n", "expected [profiles.default]"),
        (
            "xtrace.toml",
            b"[profiles.default]\napi_ulr = 'x'\n",
            "unknown setting api_ulr in the profile default: did you mean api_url",
        ),
        ("xtrace.toml", b"[profiles.default]\nkb = 3\n", "a value of kb in the profile default that is not a string"),
        ("xtrace.toml", b"a = " + b"[" * 100_000, "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(here: Path, file: str, content: bytes, sentence: str) -> None:
    (here / file).write_bytes(content)
    with pytest.raises(XTraceError, match=re.escape(sentence)):
        Settings()


def test_other_tables_of_xtrace_toml_are_not_looked_at(here: Path) -> None:
    write(here / "xtrace.toml", known("mine"))
    with (here / "xtrace.toml").open("a") as file:
        file.write("[server]\nmax_ids = 7\n")
    assert org() == "mine"


# A folder's file cannot fetch keys from elsewhere


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers nothing, its address, and what it was sent."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # closed
                    return
                with connection:
                    received.append(connection.recv(65536))

        thread = Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}", received
        finally:
            server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_url_of_the_folder_gets_no_key_from_the_environment(shell: Terminal) -> None:
    keys = {"XTRACE_ORG_ID": "mine", "XTRACE_ADMIN_KEY": "the-key-of-mine"}
    shell.environment["HOME"] = str(shell.folder / "home")
    with listening() as (url, received):
        write(shell.folder / ".env", {"api_url": url})
        shell("kb list", **keys).fails(
            f".env in this folder names the service's address ({url}), but the admin key comes from the environment "
            "variable XTRACE_ADMIN_KEY, so nothing was sent: set XTRACE_API_URL in the environment to allow it"
        )
        refused = shell.watched("kb list", "n", **keys)
        assert refused.err.endswith("[y/N] n\nxtrace: not confirmed, so nothing was sent\n")
        assert received == []
        shell.watched("kb list", "y", **keys)
        assert b"the-key-of-mine" in b"".join(received)
        # It is remembered, for this address alone.
        received.clear()
        shell("kb list", **keys)
        assert b"the-key-of-mine" in b"".join(received)
        write(shell.folder / ".env", {"api_url": f"{url}/other"})
        shell("kb list", **keys).fails("so nothing was sent")


WAYS = ("api_url", "admin_api_url", "ca_file")
CASES = [
    *itertools.product((".env", "xtrace.toml"), ("environment", "user"), WAYS),
    ("xtrace-data/credentials.json", "environment", "api_url"),
]


@pytest.mark.parametrize(("kind", "origin", "way"), CASES)
def test_no_way_of_the_folder_gets_a_key_from_elsewhere(
    here: Path, monkeypatch: pytest.MonkeyPatch, kind: str, origin: str, way: str
) -> None:
    mine = known("mine")
    if way == "api_url":
        mine.pop("api_url")
    if origin == "user":
        write(user_file(), mine)
    else:
        for name, value in mine.items():
            monkeypatch.setenv(NAMES[name], value)
    write(here / kind, {way: "ca.pem" if way == "ca_file" else "http://127.0.0.1:2"})
    with pytest.raises(UntrustedFolder, match=f"so nothing was sent: set XTRACE_{way.upper()} in the environment"):
        org()


@pytest.mark.parametrize("link", [True, False])
def test_a_folder_cannot_name_credentials_elsewhere(here: Path, link: bool) -> None:
    elsewhere = Path.home() / "work" / "credentials.json"
    write(elsewhere, known("mine"))
    path = str(elsewhere)
    if link:
        (here / "keys.json").symlink_to(elsewhere)
        path = "keys.json"
    write(here / ".env", {"api_url": "http://127.0.0.1:2", "credentials": path})
    with pytest.raises(UntrustedFolder):
        org()


def test_a_certificate_that_changes_is_asked_for_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in known("mine").items():
        monkeypatch.setenv(NAMES[name], value)
    write(here / ".env", {"ca_file": "ca.pem"})
    (here / "ca.pem").write_text("one")
    setting = Settings().get("ca_file")
    assert setting is not None
    allow(setting, "admin_key")
    assert org() == "mine"
    (here / "ca.pem").write_text("another one")
    with pytest.raises(UntrustedFolder):
        org()


def test_an_address_in_the_environment_allows_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / ".env", {"api_url": "http://127.0.0.1:2"})
    for name, value in known("mine").items():
        monkeypatch.setenv(NAMES[name], value)
    assert org() == "mine"


def test_keys_and_address_of_one_folder_go_together(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / ".env", known("mine"))
    assert org() == "mine"
    # A key that the command does not need stays where it is.
    monkeypatch.setenv("XTRACE_API_KEY", "a key for something else")
    assert org() == "mine"


def test_a_password_of_an_address_is_not_shown(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here / ".env", {"api_url": "http://user:a-password@127.0.0.1:1/x"})
    monkeypatch.setenv("XTRACE_ORG_ID", "mine")
    monkeypatch.setenv("XTRACE_ADMIN_KEY", "the key of mine")
    with pytest.raises(UntrustedFolder, match=r"\(http://127\.0\.0\.1:1\)"):
        org()


def test_a_proxy_of_the_folder_is_never_used(shell: Terminal) -> None:
    mine = known("mine") | {"api_url": "http://xtrace.invalid"}  # not this machine, to which no proxy leads
    with listening() as (proxy, received):
        write(shell.folder / ".env", mine | {"proxy": proxy})
        with (shell.folder / ".env").open("a") as file:
            file.writelines(f"{name}={proxy}\n" for name in ("http_proxy", "HTTP_PROXY", "all_proxy"))
        shell("kb list").fails("cannot reach http://xtrace.invalid")
        assert received == []
        # The same proxy in the environment is used.
        shell("kb list", http_proxy=proxy)
        assert b"the key of mine" in b"".join(received)
    write(shell.folder / "xtrace.toml", {"proxy": proxy})
    shell("kb list").fails("unknown setting proxy")
