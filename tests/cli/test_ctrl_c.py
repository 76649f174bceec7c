"""Ctrl-C in the middle: one sentence, exit status 130, the terminal as it was, and nothing half-written."""

import os
import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.conftest import PASSPHRASE
from support.language_model import event as part
from support.language_model import language_model, stream_of
from support.terminal import Conversation, Terminal
from xtrace_server.credentials import Credentials, write_credentials

CTRL_C = "\x03"


@contextmanager
def silent_server() -> Iterator[socket.socket]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        yield listener


def address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def talk(shell: Terminal, line: str) -> Iterator[Conversation]:
    """The command at a terminal; its settings are the same afterwards, echo among them."""
    with shell.converse(line) as talking:
        before = settings(talking.master)
        yield talking
        assert settings(talking.master) == before
        assert before[3] & termios.ECHO


def settings(terminal: int) -> list[Any]:
    found = termios.tcgetattr(terminal)
    return [*found[:4], found[6]]


def ended(talking: Conversation) -> None:
    talking.expect("xtrace: stopped")
    assert "Traceback" not in talking.painted
    process, talking.process = talking.process, 0
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130


@pytest.mark.parametrize("line", ["search cat", "ask cat --model small", "load notes", "kb list"])
def test_while_a_server_does_not_answer(library: Terminal, line: str) -> None:
    (library.folder / "notes").mkdir(exist_ok=True)
    before = sorted(library.folder.rglob("*"))
    with silent_server() as server:
        shell = Terminal(
            library.folder, {**library.environment, "XTRACE_CREDENTIALS": "../elsewhere.json"}, library.seen
        )
        write_credentials(
            library.folder.parent / "elsewhere.json", Credentials("org", "a" * 40, "b" * 40, address(server))
        )
        with talk(shell, line) as talking:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100)
                talking.type(CTRL_C)
                ended(talking)
    assert sorted(library.folder.rglob("*")) == before


def test_in_the_middle_of_an_answer(library: Terminal) -> None:
    going_on = threading.Event()
    with language_model() as model:
        model.plans = [stream_of(part("Half an answer"), going_on)]
        shell = Terminal(
            library.folder,
            {**library.environment, "XTRACE_LLM_MODEL": "small", "XTRACE_LLM_BASE_URL": model.url},
            library.seen,
        )
        with talk(shell, "ask 'Which animal is napping?' -k 1") as talking:
            talking.expect("Half an answer")
            talking.type(CTRL_C)
            ended(talking)
        going_on.set()


@pytest.fixture
def person(shell: Terminal, credentials: Credentials) -> Terminal:
    """A shell in an empty folder, whose user has credentials elsewhere."""
    home = shell.folder.parent / f"{shell.folder.name}-home"
    shell.environment |= {"HOME": str(home), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    write_credentials(home / "credentials.json", credentials)
    return shell


def test_at_each_question_of_init(person: Terminal) -> None:
    home = person.environment["HOME"]
    line = f"init --credentials {home}/credentials.json"
    questions = [
        ("The embedding model", "\n"),
        ("Passphrase for the new context: ", f"{PASSPHRASE}\n"),
        ("Confirm passphrase: ", ""),
    ]
    for count in range(1, len(questions) + 1):
        with talk(person, line) as talking:
            for question, answer in questions[: count - 1]:
                talking.expect(question)
                talking.type(answer)
            talking.expect(questions[count - 1][0])
            talking.type(CTRL_C)
            ended(talking)
        assert list(person.folder.iterdir()) == []
        assert not list(Path(home).glob("**/allowed.json"))


def test_while_init_tries_the_connection(person: Terminal) -> None:
    with silent_server() as server:
        line = f"init --credentials {person.environment['HOME']}/credentials.json --url {address(server)} --yes"
        with talk(person, line) as talking:
            connection, _ = server.accept()
            with connection:
                talking.type(CTRL_C)
                ended(talking)
    assert list(person.folder.iterdir()) == []
