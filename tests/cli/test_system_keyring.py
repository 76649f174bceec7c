"""The passphrase in a real keyring: the backend of `keyrings.alt` that keeps it in a file of the user."""

import shutil
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.library import LOCKED, RECORDS, furnish
from support.terminal import Terminal
from xtrace_server.credentials import Credentials, write_credentials

BACKEND = "keyrings.alt.file.PlaintextKeyring"


@pytest.fixture
def person(shell: Terminal, credentials: Credentials, made_keys: Path) -> Terminal:
    """A shell in a folder with a loaded knowledge base, whose user has a keyring and types the passphrase."""
    pytest.importorskip("keyrings.alt.file")
    home = shell.folder.parent / f"{shell.folder.name}-home"
    shell.environment |= {
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "PYTHON_KEYRING_BACKEND": BACKEND,
    }
    furnish(shell.folder, credentials, made_keys, RECORDS)
    write_credentials(home / "credentials.json", credentials)
    shutil.move(shell.folder / LOCKED, shell.folder / "keys" / "context.json")
    return shell


def test_init_keeps_it_and_later_commands_find_it(person: Terminal) -> None:
    home = Path(person.environment["HOME"])
    line = f"init --credentials {home}/credentials.json --yes --keep-passphrase keyring"
    kept = person(line, XTRACE_PASSPHRASE=PASSPHRASE)
    assert kept.status == 0, kept.err
    assert "xtrace: the passphrase is in the system's keyring\n" in kept.err
    assert "XTRACE_PASSPHRASE" not in (person.folder / ".env").read_text()
    assert all(PASSPHRASE.encode() not in path.read_bytes() for path in person.folder.rglob("*") if path.is_file())
    (entry,) = home.rglob("*.cfg")
    assert "xtrace" in entry.read_text()

    # Nothing else says it: no variable, no file, no terminal.
    assert "notes/cat.txt" in person("search 'Which animal is napping?' -k 1").text
    person("search cat", XTRACE_PASSPHRASE=WRONG_PASSPHRASE).fails("passphrase or key is wrong")
    (doctor,) = [one for one in person("doctor --json").json["findings"] if one["check"] == "context"]
    assert doctor["status"] == "ok"

    entry.unlink()
    person("search cat").fails("a passphrase is needed", status=2)


def test_it_is_asked_for_and_not_kept_unless_the_answer_is_yes(person: Terminal) -> None:
    home = Path(person.environment["HOME"])
    line = f"init --credentials {home}/credentials.json --kb documents --no-save-context --document hello"
    asked = person.watched(line, PASSPHRASE, "n")
    assert "Keep the passphrase in the system's keyring?" in asked.err, asked.err
    assert asked.status == 0, asked.err
    assert not list(home.rglob("*.cfg"))


def test_a_keyring_that_refuses_is_one_sentence(person: Terminal) -> None:
    home = Path(person.environment["HOME"])
    (home / "data").mkdir()
    (home / "data" / "python_keyring").write_text("a file where the backend wants a folder")
    line = f"init --credentials {home}/credentials.json --yes --keep-passphrase keyring"
    kept = person(line, XTRACE_PASSPHRASE=PASSPHRASE)
    assert kept.status == 1
    assert kept.err.splitlines()[-1].startswith("xtrace: the system's keyring refused the passphrase"), kept.err
    assert not (person.folder / ".env").exists()
