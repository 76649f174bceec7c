"""Recovery keys at the command line: made, tested, replaced, removed, used, and kept or not in a rotation."""

import re
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE
from support.terminal import Result, Terminal
from xtrace_sdk.errors import WrongKey
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext

NEW_PASSPHRASE = "a new horse on a new battery"


@pytest.fixture
def terminal(xtrace: Terminal) -> Terminal:
    """A shell that knows both passphrases."""
    xtrace.environment |= {"XTRACE_PASSPHRASE": PASSPHRASE, "XTRACE_NEW_PASSPHRASE": NEW_PASSPHRASE}
    return xtrace


def words_of(result: Result) -> str:
    """The words that a command printed for a person."""
    assert result.status == 0, result.err
    numbered = re.findall(r"(\d+) ([a-z]{3,8})(?:  |\n)", result.out)
    assert [number for number, _ in numbered] == [str(i) for i in range(1, 25)], result.out
    assert "will not be shown again" in result.err
    return " ".join(word for _, word in numbered)


def recovered(path: Path, words: str) -> ExecutionContext:
    return ExecutionContext.load_from_disk(path=path, recovery_key=words)


def test_a_forgotten_passphrase(terminal: Terminal) -> None:
    created = terminal("context create mine.json --dimensions 8 --recovery-key")
    context_id, words = created.out.splitlines()[0], words_of(created)
    assert recovered(terminal.folder / "mine.json", words).id == context_id
    assert "has recovery key  yes" in terminal("context show mine.json").text.splitlines()

    before = (terminal.folder / "mine.json").read_bytes()
    tested = terminal("context recover mine.json --check", XTRACE_RECOVERY_KEY=words)
    assert (tested.status, tested.out, tested.err) == (0, "", "xtrace: the recovery key opens mine.json\n")
    assert (terminal.folder / "mine.json").read_bytes() == before

    (terminal.folder / "words").write_text(words.upper() + "\n")
    terminal.environment.pop("XTRACE_PASSPHRASE")
    assert terminal("context recover mine.json --recovery-key-file words --json").json == {
        "context_id": context_id,
        "changed": True,
    }
    assert ExecutionContext.load_from_disk(NEW_PASSPHRASE, terminal.folder / "mine.json").id == context_id
    assert terminal("context recover mine.json --new-key-file key", XTRACE_RECOVERY_KEY=words).status == 0
    assert terminal("context save mine.json --key-file key").text == context_id
    assert recovered(terminal.folder / "mine.json", words).id == context_id


def test_the_same_as_json(terminal: Terminal) -> None:
    created = terminal("context create mine.json --dimensions 8 --recovery-key --json")
    words = created.json["recovery_key"]
    assert len(words.split()) == 24
    assert created.json["has_recovery_key"] is True
    shown = terminal("context show mine.json --json").json
    assert shown == {name: value for name, value in created.json.items() if name != "recovery_key"}
    checked = terminal("context recover mine.json --check --json", XTRACE_RECOVERY_KEY=words)
    assert checked.json == {"context_id": shown["context_id"], "changed": False}


def test_the_words_are_asked_for_and_not_echoed(terminal: Terminal) -> None:
    words = words_of(terminal("context create mine.json --dimensions 8 --recovery-key"))
    asked = terminal.watched("context recover mine.json --check", words)
    assert asked.err == "Recovery key, its words on one line: \nxtrace: the recovery key opens mine.json\n"
    terminal("context recover mine.json --check").fails(
        "give --recovery-key-file, or set XTRACE_RECOVERY_KEY", status=2
    )
    other = ["zoo", *words.split()[1:-1], "misspelt"]
    refused = terminal("context recover mine.json --check", XTRACE_RECOVERY_KEY=" ".join(other))
    refused.fails("word 24 of 24")
    assert "misspelt" not in refused.err


def test_one_is_added_replaced_and_removed(terminal: Terminal) -> None:
    path = terminal.folder / "mine.json"
    context_id = terminal("context create mine.json --dimensions 8").text
    terminal("context recover mine.json", XTRACE_RECOVERY_KEY="abandon " * 23 + "art").fails(
        "does not have a recovery key"
    )
    first = words_of(terminal("context recovery-key mine.json"))
    assert recovered(path, first).id == context_id
    terminal("context recovery-key mine.json").fails("add --yes", status=2)
    assert terminal.watched("context recovery-key mine.json", "n").status == 1
    assert recovered(path, first).id == context_id
    second = terminal("context recovery-key mine.json --yes --json").json["recovery_key"]
    assert recovered(path, second).id == context_id
    with pytest.raises(WrongKey):
        recovered(path, first)
    assert terminal("context rewrap mine.json").status == 0
    assert recovered(path, second).id == context_id
    removed = terminal("context recovery-key mine.json --remove --yes", XTRACE_PASSPHRASE=NEW_PASSPHRASE)
    assert (removed.status, removed.err) == (0, "xtrace: mine.json no longer has a recovery key\n")
    with pytest.raises(WrongKey, match="does not have a recovery key"):
        recovered(path, second)


def test_a_lost_file_is_restored_by_the_recovery_key(terminal: Terminal) -> None:
    words = words_of(terminal("context create mine.json --dimensions 8 --recovery-key"))
    context_id = terminal("context save mine.json").text
    terminal.environment.pop("XTRACE_PASSPHRASE")
    terminal(f"context restore {context_id} copy.json").fails("XTRACE_PASSPHRASE", status=2)
    restored = terminal(f"context restore {context_id} copy.json --by-recovery-key", XTRACE_RECOVERY_KEY=words)
    assert restored.text == context_id
    assert (terminal.folder / "copy.json").read_bytes() == (terminal.folder / "mine.json").read_bytes()
    (terminal.folder / "words").write_text(words)
    assert terminal(f"context restore {context_id} again.json --recovery-key-file words").text == context_id


def test_a_rotation_must_be_told_what_becomes_of_it(terminal: Terminal) -> None:
    words = words_of(terminal("context create old.json --dimensions 8 --recovery-key"))
    terminal("context save old.json")
    terminal("context rotate old.json new.json").fails("choose --recovery-key new, keep or none", status=2)
    assert not (terminal.folder / "new.json").exists()
    assert terminal("context rotate old.json new.json --dry-run").status == 0

    made = terminal("context rotate old.json new.json --recovery-key new")
    other = words_of(made)
    assert "in all" in made.out
    assert recovered(terminal.folder / "new.json", other).predecessor == recovered(terminal.folder / "old.json", words)
    again = terminal("context rotate old.json new.json --recovery-key new")
    again.fails("xtrace context recovery-key new.json", status=2)


def test_a_rotation_keeps_the_recovery_key_or_makes_another_or_none(terminal: Terminal) -> None:
    def rotated(choice: str, words: str, options: str = "") -> Result:
        line = f"context rotate {choice}-old.json {choice}.json --recovery-key {choice} {options}"
        return terminal(line, XTRACE_RECOVERY_KEY=words)

    words = {
        choice: words_of(terminal(f"context create {choice}-old.json --dimensions 8 --recovery-key"))
        for choice in ("new", "keep", "none")
    }
    for choice in words:
        terminal(f"context save {choice}-old.json")

    rotated("keep", words["new"]).fails("not this context's")
    assert not (terminal.folder / "keep.json").exists()
    assert rotated("keep", words["keep"]).status == 0
    assert recovered(terminal.folder / "keep.json", words["keep"]).has_recovery_key
    assert rotated("none", words["none"]).status == 0
    with pytest.raises(WrongKey, match="does not have a recovery key"):
        recovered(terminal.folder / "none.json", words["none"])
    made = rotated("new", words["new"], "--json").json["recovery_key"]
    assert made != words["new"]
    assert recovered(terminal.folder / "new.json", made).has_recovery_key
