"""Where settings come from, and that a folder's files cannot fetch keys from elsewhere."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from support.service import LiveService
from support.terminal import Terminal
from xtrace_server.credentials import Credentials, write_credentials

NAMES = {"api_url": "XTRACE_API_URL", "org_id": "XTRACE_ORG_ID", "admin_key": "XTRACE_ADMIN_KEY"}


@pytest.fixture
def person(shell: Terminal, credentials: Credentials) -> Terminal:
    """A shell whose user has a home of its own; a fresh organisation exists, which it does not know."""
    shell.environment |= {"HOME": str(shell.folder.parent / f"{shell.folder.name}-home"), "XDG_CONFIG_HOME": ""}
    return shell


@pytest.fixture
def live_organisations(live_service: LiveService) -> list[Credentials]:
    return [live_service.new_organisation() for _ in range(5)]


def variables(credentials: Credentials) -> dict[str, str]:
    return {variable: str(getattr(credentials, name)) for name, variable in NAMES.items()}


def profile(file: Path, name: str, credentials: Credentials, **changed: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    settings = {one: str(getattr(credentials, one)) for one in NAMES} | changed
    lines = [f'{one} = "{value}"\n' for one, value in settings.items()]
    file.write_text(f"[profiles.{name}]\n{''.join(lines)}")


def user_file(person: Terminal) -> Path:
    return Path(person.environment["HOME"], ".config", "xtrace", "xtrace.toml")


def org(person: Terminal, line: str = "", **environment: str) -> str:
    """The id of the organisation that a command works with."""
    return str(person(f"{line} usage --json".strip(), **environment).json["id"])


def test_the_nearest_source_counts(person: Terminal, live_organisations: list[Credentials]) -> None:
    environment, dotenv, folder, user, default = live_organisations
    (person.folder / "xtrace-data").mkdir()
    write_credentials(person.folder / "xtrace-data" / "credentials.json", default)
    assert org(person) == default.org_id
    profile(user_file(person), "default", user)
    assert org(person) == user.org_id
    profile(person.folder / "xtrace.toml", "default", folder)
    assert org(person) == folder.org_id
    (person.folder / ".env").write_text("".join(f"{name}={one}\n" for name, one in variables(dotenv).items()))
    assert org(person) == dotenv.org_id
    assert org(person, **variables(environment)) == environment.org_id


def test_a_profile_is_chosen_by_name(person: Terminal, live_organisations: list[Credentials]) -> None:
    work, home, *_ = live_organisations
    profile(user_file(person), "work", work)
    profile(person.folder / "xtrace.toml", "home", home)
    assert org(person, "--profile work") == work.org_id
    assert org(person, XTRACE_PROFILE="home") == home.org_id
    assert org(person, "--profile home", XTRACE_PROFILE="work") == home.org_id
    (person.folder / ".env").write_text("XTRACE_PROFILE=work\n")
    assert org(person) == work.org_id
    person("--profile wrok usage").fails("the profile wrok does not exist", status=2)
    assert "did you mean work?" in person("--profile wrok usage").err


def test_a_file_names_a_credentials_file_beside_it(person: Terminal, credentials: Credentials) -> None:
    write_credentials(user_file(person).parent / "mine.json", credentials)
    user_file(person).write_text('[profiles.default]\ncredentials = "mine.json"\n')
    assert org(person) == credentials.org_id


def test_the_dotenv_is_read_as_others_write_it(person: Terminal, credentials: Credentials) -> None:
    (person.folder / ".env").write_bytes(
        f"\ufeff# settings\r\nexport XTRACE_API_URL='{credentials.api_url}'\r\n"
        f'XTRACE_ORG_ID = "{credentials.org_id}" # ours\r\n'
        f"OTHER=$(anything at all\r\nXTRACE_KB=\r\nXTRACE_ADMIN_KEY={credentials.admin_key}\r\n".encode()
    )
    assert org(person) == credentials.org_id


def test_a_dotenv_cannot_read_the_environment(person: Terminal) -> None:
    (person.folder / ".env").write_text(
        "XTRACE_API_URL=http://127.0.0.1:1/${SECRET}\nXTRACE_ORG_ID=o\nXTRACE_ADMIN_KEY=a\n"
    )
    refused = person("kb list", SECRET="a-secret-of-the-user")
    refused.fails("127.0.0.1:1")
    assert "a-secret" not in refused.err


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
        ("xtrace.toml", b"[profiles.default]\nkb = 3\n", "a value of kb in the profile default that is not a text"),
        ("xtrace.toml", b"a = " + b"[" * 100_000, "is not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(person: Terminal, file: str, content: bytes, sentence: str) -> None:
    (person.folder / file).write_bytes(content)
    person("kb list").fails(sentence)


def test_other_tables_of_xtrace_toml_are_not_looked_at(person: Terminal, credentials: Credentials) -> None:
    profile(person.folder / "xtrace.toml", "default", credentials)
    with (person.folder / "xtrace.toml").open("a") as file:
        file.write("[server]\nmax_ids = 7\n")
    assert org(person) == credentials.org_id


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


def write_way(person: Terminal, kind: str, name: str, value: str, **more: str) -> None:
    """The folder's file of that kind says so."""
    settings = {name: value, **more}
    if kind == ".env":
        (person.folder / kind).write_text("".join(f"XTRACE_{one.upper()}={text}\n" for one, text in settings.items()))
    elif kind == "xtrace.toml":
        lines = "".join(f'{one} = "{text}"\n' for one, text in settings.items())
        (person.folder / kind).write_text(f"[profiles.default]\n{lines}")
    else:
        folder = person.folder / "xtrace-data"
        folder.mkdir()
        (folder / "credentials.json").write_text(
            "{" + ",".join(f'"{one}": "{text}"' for one, text in settings.items()) + "}"
        )


KINDS = (".env", "xtrace.toml")


@pytest.mark.parametrize("kind", [*KINDS, "xtrace-data/credentials.json"])
@pytest.mark.parametrize("origin", ["environment", "user"])
def test_a_url_of_the_folder_gets_no_key_from_elsewhere(
    person: Terminal, credentials: Credentials, kind: str, origin: str
) -> None:
    if origin == "user" and kind == "xtrace-data/credentials.json":
        pytest.skip("a user's profile goes before it as a whole")
    keys = variables(credentials)
    keys.pop("XTRACE_API_URL")
    if origin == "user":
        profile(user_file(person), "default", credentials)
        keys = {}
    with listening() as (url, received):
        write_way(person, kind, "api_url", url)
        person("kb list", **keys).fails(f"names the service's address ({url}), but the admin key comes from")
        assert received == []
        person.watched("kb list", "n", **keys)
        assert received == []
        person.watched("kb list", "y", **keys)
        assert credentials.admin_key.encode() in b"".join(received)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["admin_api_url", "ca_file"])
def test_other_ways_of_the_folder_get_no_key_from_elsewhere(
    person: Terminal, credentials: Credentials, kind: str, way: str
) -> None:
    with listening() as (url, received):
        write_way(person, kind, way, url if way.endswith("url") else "ca.pem")
        refused = person("kb list", **variables(credentials))
        refused.fails(f"set XTRACE_{way.upper()} in the environment to allow it")
        assert received == []


@pytest.mark.parametrize("link", [True, False])
def test_a_folder_cannot_name_credentials_elsewhere(person: Terminal, credentials: Credentials, link: bool) -> None:
    elsewhere = Path(person.environment["HOME"], "work", "credentials.json")
    write_credentials(elsewhere, credentials)
    path = str(elsewhere)
    if link:
        (person.folder / "keys.json").symlink_to(elsewhere)
        path = "keys.json"
    with listening() as (url, received):
        write_way(person, ".env", "api_url", url, credentials=path)
        person("kb list").fails("so nothing was sent")
        assert received == []


def test_an_address_in_the_environment_allows_it(person: Terminal, credentials: Credentials) -> None:
    write_way(person, ".env", "api_url", "http://127.0.0.1:1")
    assert org(person, **variables(credentials)) == credentials.org_id


def test_keys_and_address_of_one_folder_go_together(person: Terminal, credentials: Credentials) -> None:
    write_way(
        person, ".env", "api_url", credentials.api_url, org_id=credentials.org_id, admin_key=credentials.admin_key
    )
    assert org(person) == credentials.org_id
    # A key that the command does not need stays where it is.
    assert org(person, XTRACE_API_KEY="a key for something else") == credentials.org_id


def test_a_password_of_an_address_is_not_shown(person: Terminal) -> None:
    write_way(person, ".env", "api_url", "http://user:a-password@127.0.0.1:1/x")
    refused = person("kb list", XTRACE_ORG_ID="o", XTRACE_ADMIN_KEY="k")
    refused.fails("(http://127.0.0.1:1)")
    assert "a-password" not in refused.err


def test_a_proxy_of_the_folder_is_never_used(person: Terminal, credentials: Credentials) -> None:
    host = "http://xtrace.invalid"  # not this machine, to which no proxy leads
    with listening() as (proxy, received):
        settings = {"api_url": host, "org_id": credentials.org_id, "admin_key": credentials.admin_key}
        names = ("http_proxy", "HTTP_PROXY", "all_proxy", "XTRACE_PROXY")
        (person.folder / ".env").write_text(
            "".join(f"{name}={proxy}\n" for name in names)
            + "".join(f"XTRACE_{name.upper()}={value}\n" for name, value in settings.items())
        )
        person("kb list").fails(f"cannot reach {host}")
        assert received == []
        # The same proxy in the environment is used.
        person("kb list", http_proxy=proxy)
        assert credentials.admin_key.encode() in b"".join(received)
    write_way(person, "xtrace.toml", "proxy", proxy)
    person("kb list").fails("unknown setting proxy")
