"""`xtrace shell`: lines that become commands, what stays open between them, and a real terminal."""

import sys
from pathlib import Path

import pytest

from support.inside import Inside
from support.terminal import Terminal
from xtrace_cli.shell.session import is_complete, joined
from xtrace_cli.shell.terminal import candidates, history_in

SEARCH = "search 'Which animal is napping?' -k 1"


def test_a_second_search_opens_and_imports_nothing(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    assert inside(SEARCH).text.startswith("1. notes/cat.txt")
    from wordllama import WordLlama

    from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

    def again(*_: object, **__: object) -> None:
        raise AssertionError("it was loaded before")

    monkeypatch.setattr(WordLlama, "load", again)
    monkeypatch.setattr(ExecutionContext, "load_from_disk", again)
    loaded = set(sys.modules)
    assert inside("search 'Who gives notice?' -k 1").text.startswith("1. notes/lease.pdf")
    assert set(sys.modules) - loaded == set()


def test_an_error_ends_the_command_and_not_the_shell(inside: Inside) -> None:
    inside("search cat --kb nowhere").fails("the knowledge base nowhere does not exist")
    wrong = inside("search")
    assert (wrong.status, wrong.out) == (2, "")
    assert "Missing argument 'QUESTION'" in wrong.err
    unknown = inside("saerch cat")
    assert unknown.status == 2
    assert "No such command 'saerch'" in unknown.err
    inside("search 'cat").fails("a quote is not closed", status=2)
    inside("shell").fails("this is the shell already", status=2)
    assert inside("\\nothing").status == 2
    assert inside("# isn't a command").status == inside("  ").status == 0
    assert inside(f"xtrace {SEARCH}").status == 0


def test_json_and_timing_are_switched_on_for_commands_that_have_them(inside: Inside) -> None:
    assert inside("\\json").err == "xtrace: results are printed as JSON\n"
    assert inside(SEARCH).json["hits"][0]["id"] == "notes/cat.txt#0"
    assert inside("kb --help").text.startswith("Usage: xtrace kb")
    assert inside("\\json").err == "xtrace: results are printed for people\n"
    inside("\\timing")
    timed = inside(SEARCH)
    assert "search 0." in timed.err
    assert "xtrace: the command took " in timed.err
    inside("\\timing")
    assert inside(SEARCH).err == ""


def test_commands_over_several_lines() -> None:
    assert is_complete("search cat")
    assert not is_complete("search cat \\")
    assert not is_complete("search 'cat")
    assert is_complete("\\json")
    assert is_complete("# what isn't a command")
    assert joined(["search \\", "'a cat", "and a dog'"]) == "search  'a cat\nand a dog'"


def test_completion_knows_commands_options_and_values() -> None:
    assert "search" in list(candidates([], "s"))
    assert list(candidates(["xvec"], "r")) == ["retrieve"]
    assert list(candidates(["search", "cat"], "--sc")) == ["--scores"]
    assert "--kb" in list(candidates(["search", "cat", "--scores"], "--"))
    assert "--scores" not in list(candidates(["search", "cat", "--scores"], "--"))
    assert list(candidates(["context", "create", "--scheme"], "paillier_")) == ["paillier_lookup"]
    assert list(candidates([], "\\t")) == ["\\timing"]
    assert list(candidates(["nothing"], "s")) == []


def test_the_history_is_private_and_has_no_keys(tmp_path: Path) -> None:
    history = history_in(tmp_path / "state" / "xtrace")
    for line in ("search cat", " search secret", "keys revoke " + "A1b2C3d4" * 5, "kb list"):
        history.store_string(line)
    file = tmp_path / "state" / "xtrace" / "history"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    assert "+search cat" in text
    assert "+kb list" in text
    assert "secret" not in text
    assert "A1b2C3d4" not in text
    (tmp_path / "file").write_text("")
    history_in(tmp_path / "file").store_string("search cat")  # in memory alone


def test_lines_from_a_pipe(library: Terminal) -> None:
    lines = f"{SEARCH} \\\n --json\n\\nothing\nsearch cat --kb nowhere\nexit\nsearch cat\n"
    ended = library("shell", typed=lines)
    assert ended.status == 1
    assert ended.out.count('"hits"') == 1
    assert ended.err.splitlines()[-1].startswith("xtrace: the knowledge base nowhere does not exist")
    assert "Warning" not in ended.err


def test_a_conversation_at_a_terminal(library: Terminal) -> None:
    with library.converse("shell") as talk:
        talk.expect("xtrace>")
        talk.type("search cat --kb nowhere\r")
        talk.expect("does not exist")
        talk.expect("xtrace>")
        talk.type("half a line\x03")  # Ctrl-C gives up the line
        talk.expect("xtrace>")
        talk.type("vers\t")
        talk.expect("version")
        talk.type("\r")
        talk.expect("xtrace 0.")
        talk.expect("xtrace>")
        talk.type("\x04")
        assert talk.end() == 0
