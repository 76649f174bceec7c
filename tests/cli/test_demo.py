"""`xtrace demo`: runs, runs again, and runs that were cut off."""

import os
import re
import shlex
import signal
import socket
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from support.terminal import Result, Running, Terminal
from xtrace_sdk.x_vec.data_loaders.loading import BATCH_SIZE

RECIPES = {
    "bread.md": "# Bread\n\nBread needs flour, water, salt and yeast, and a hot oven.",
    "soup.txt": "Pumpkin soup is cooked from a pumpkin, an onion and ginger.",
    "cellar/wine.txt": "Wine is kept lying down in a cool and dark cellar.",
    ".hidden/secret.txt": "This is not for anybody.",
    "picture.png": "no text",
}


@pytest.fixture
def recipes(shell: Terminal) -> Path:
    """A folder with three texts, and files that are none."""
    shell.environment["HOME"] = str(shell.folder / "home")  # where it is kept that the server may be started
    folder = shell.folder / "recipes"
    for name, text in RECIPES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def loaded(result: Result) -> tuple[int, int, int, int]:
    """How many files a run found new, changed, known and removed."""
    found = re.search(r"documents: (\d+) new, (\d+) changed, (\d+) known, (\d+) removed; ", result.text)
    assert found, result.err
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])


def stored_names(shell: Terminal) -> list[str]:
    """The names of the records in the server's database; one that is stored twice has its name twice.

    The first chunk of a collection is no record: it says which fields are filterable.
    """
    with closing(sqlite3.connect(shell.folder / "data" / "server" / "xtrace.db")) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM chunk ORDER BY pk")][1:]


def test_the_first_run_answers_and_shows_ciphertext_and_the_second_loads_nothing(
    shell: Terminal, recipes: Path
) -> None:
    line = "demo recipes --data data --ask 'What do I need for bread?' --ask 'Is wine kept in a dark cellar?'"
    first = shell(line)
    assert loaded(first) == (3, 0, 0, 0)
    bread, wine = first.text.split("\nQ: ")[1:]
    assert bread.splitlines()[1].startswith("(embed 0.")
    assert bread.splitlines()[2].startswith("1. recipes/bread.md, ")
    assert "hot oven" in bread
    assert wine.splitlines()[2].startswith("1. recipes/cellar/wine.txt, line 1 (0.")
    assert re.search(r"^   content     [A-Za-z0-9+/]{64}…  \(\d+ characters, AES-256-GCM\)$", first.text, re.MULTILINE)
    assert re.search(r"^   vector      [0-9a-f]{64}…  \(512 bytes, Paillier\)$", first.text, re.MULTILINE)
    assert "anybody" not in first.text

    second = shell(line)
    assert loaded(second) == (0, 0, 3, 0)
    assert "; 0 chunks embedded" in second.text
    assert len(set(stored_names(shell))) == len(stored_names(shell)) == 3


def test_it_ends_with_three_commands_that_work(shell: Terminal, recipes: Path) -> None:
    shell.environment["XTRACE_PASSPHRASE"] = "of something else"
    shown = shell("demo recipes --data data --ask 'What do I need for bread?'").text.splitlines()
    assert shown[-4] == "Continue in the folder data, whose .env has the settings (cd data):"
    words = [shlex.split(line)[1:] for line in shown[-3:]]
    assert [one[:2] for one in words] == [["search", "What do I need for bread?"], ["xvec", "head"], ["shell"]]
    assert (shell.folder / "data" / ".env").stat().st_mode & 0o777 == 0o600

    inside = Terminal(shell.folder / "data", {"HOME": shell.environment["HOME"]}, shell.seen)
    try:
        assert inside(shlex.join(words[0])).text.startswith("1. recipes/bread.md")
        assert len(inside("xvec head --json").json) == 3
        assert inside("shell", typed="xvec count\n").text == "3"
        assert loaded(shell("demo recipes --data data")) == (0, 0, 3, 0)  # beside the server that they have started
    finally:
        assert inside("local-server stop").status == 0


def test_nothing_readable_reaches_the_server(shell: Terminal, recipes: Path) -> None:
    shell("demo recipes --data data")
    server = b"".join(path.read_bytes() for path in (shell.folder / "data" / "server").iterdir())
    passphrase = (shell.folder / "data" / "client" / "passphrase").read_text().strip()
    for text in ("Pumpkin", "bread.md", "recipes", passphrase):
        assert text.encode() not in server
    assert {path.stat().st_mode & 0o777 for path in (shell.folder / "data" / "client").iterdir()} == {0o600}


def test_changed_and_removed_files_are_followed(shell: Terminal, recipes: Path) -> None:
    shell("demo recipes --data data")
    (recipes / "soup.txt").write_text("Tomato soup is cooked from tomatoes and basil.")
    (recipes / "cellar" / "wine.txt").unlink()
    again = shell("demo recipes --data data --ask 'Which soup is there?'")
    assert loaded(again) == (0, 1, 1, 1)
    assert "Tomato soup" in again.text
    assert "Pumpkin" not in again.text
    assert len(stored_names(shell)) == 2


def test_another_folder_is_another_knowledge_base(shell: Terminal, recipes: Path) -> None:
    shell("demo recipes --data data")
    (shell.folder / "more").mkdir()
    (shell.folder / "more" / "tea.txt").write_text("Tea is drawn for three minutes.")
    assert loaded(shell("demo more --data data")) == (1, 0, 0, 0)
    assert loaded(shell("demo recipes --data data")) == (0, 0, 3, 0)


def test_folders_without_text_are_one_sentence(shell: Terminal) -> None:
    shell("demo nowhere --data data").fails("nowhere is not a folder")
    assert not (shell.folder / "data").exists()
    (shell.folder / "empty").mkdir()
    ended = shell("demo empty --data data")
    assert ended.status == 1
    assert ended.err.splitlines()[-1].endswith("empty contains no file of a supported format: nothing was loaded")


def test_what_is_in_files_cannot_steer_the_terminal(shell: Terminal, recipes: Path) -> None:
    (recipes / "binary.txt").write_bytes(b"\x00\x01")
    Path(os.fsdecode(os.fsencode(recipes) + b"/caf\xe9.txt")).write_text("This one has a strange name.")
    (recipes / "steering.txt").write_text("A title \x1b]0;changed\x07 and \x1b[31mred\x1b[0m letters.")
    line = "demo recipes --data data --ask 'Which letters are red?' --ask 'Which name is strange?'"
    ended = shell(line, PYTHONIOENCODING="iso8859-5")
    assert loaded(ended)[0] == 5
    assert "recipes/binary.txt: " in ended.err
    assert "recipes/caf%E9.txt" in ended.text
    assert "\x1b" not in ended.text + ended.err


def test_a_lost_or_wrong_passphrase_is_one_sentence(shell: Terminal, recipes: Path) -> None:
    shell("demo recipes --data data")
    file = shell.folder / "data" / "client" / "passphrase"
    passphrase = file.read_text()
    file.write_text("another\n")
    shell("demo recipes --data data").fails("passphrase or key is wrong")
    file.unlink()
    shell("demo recipes --data data").fails("passphrase: No such file or directory")
    file.write_text(passphrase)
    assert loaded(shell("demo recipes --data data")) == (0, 0, 3, 0)
    assert all(passphrase.strip() not in text for text in shell.seen)


def test_the_settings_of_another_server_do_not_matter(shell: Terminal, recipes: Path) -> None:
    elsewhere = {
        "XTRACE_API_URL": "http://127.0.0.1:1",
        "XTRACE_ADMIN_API_URL": "http://127.0.0.1:1",
        "XTRACE_API_KEY": "another",
        "XTRACE_HOST": "203.0.113.1",
        "XTRACE_DATABASE_URL": f"sqlite+aiosqlite:///{shell.folder / 'another.db'}",
    }
    assert loaded(shell("demo recipes --data data", **elsewhere)) == (3, 0, 0, 0)
    assert not (shell.folder / "another.db").exists()


def test_a_server_that_cannot_start_is_one_sentence(shell: Terminal, recipes: Path) -> None:
    (shell.folder / "data" / "server").mkdir(parents=True)
    (shell.folder / "data" / "server" / "xtrace.db").write_bytes(b"anything else" * 100)
    ended = shell("demo recipes --data data")
    assert ended.status == 1
    assert re.fullmatch(r"xtrace: the server stopped: .*not a database.*\n", ended.err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_was_cut_off_is_completed_by_the_next(shell: Terminal, number: signal.Signals) -> None:
    # So many batches that the signal always comes between the first of them and the last.
    folder, count = shell.folder / "letters", 2_000
    folder.mkdir()
    for i in range(count):
        (folder / f"{i}.txt").write_text(f"Letter {i}: " + f"nothing new on day {i}. " * 10)
    line = "demo letters --data data --ask 'What is new?'"
    with shell.start(line) as first:
        address = first.wait_for("A private server runs at").split()[-1]
        wait_for_chunks(first, shell.folder / "data" / "server" / "xtrace.db")
        cut_off = first.stop(number)
    said = re.fullmatch(
        r"xtrace: (\d+) chunks are stored: run the same command again to continue\nxtrace: stopped\n", cut_off.err
    )
    assert said, cut_off.err
    assert cut_off.status == 130
    assert "Q: " not in cut_off.out
    host, port = address.removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))

    before = len(stored_names(shell))
    assert 0 < before < count
    # What was on its way may have been stored, too.
    assert int(said[1]) <= before <= int(said[1]) + 2 * BATCH_SIZE
    new, changed, known, removed = loaded(shell(line))
    assert (new + changed + known, removed) == (count, 0)
    assert new + changed > 0
    names = stored_names(shell)
    assert len(set(names)) == len(names) == count


def wait_for_chunks(running: Running, database: Path) -> None:
    """Comes back as soon as some records are stored, beside the collection's first chunk."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        while connection.execute("SELECT count(*) FROM chunk").fetchone() <= (1,):
            assert running.process.poll() is None
            time.sleep(0.005)
