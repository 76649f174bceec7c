"""`xtrace context`, in files and on a real server."""

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.service import Http, chunk
from support.terminal import Terminal
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


@pytest.fixture
def protected(xtrace: Terminal) -> Terminal:
    """A shell whose environment has the passphrase."""
    xtrace.environment["XTRACE_PASSPHRASE"] = PASSPHRASE
    return xtrace


def test_a_context_from_its_creation_to_its_end(protected: Terminal) -> None:
    context_id = protected("context create mine.json --dimensions 64").text
    assert ExecutionContext.load_from_disk(PASSPHRASE, protected.folder / "mine.json").id == context_id
    assert stat.S_IMODE((protected.folder / "mine.json").stat().st_mode) == 0o600

    assert protected("context save mine.json").text == context_id
    headings, line = protected("context list").text.splitlines()
    assert headings.split()[:4] == ["CONTEXT", "CREATED", "SCHEME", "RESTORABLE"]
    assert line.split()[0] == context_id
    assert line.endswith("paillier_lookup  yes         none")
    assert protected(f"context restore {context_id} copy.json").text == context_id
    assert (protected.folder / "copy.json").read_bytes() == (protected.folder / "mine.json").read_bytes()

    deleted = protected(f"context delete {context_id} --yes")
    assert (deleted.status, deleted.out, deleted.err) == (0, "", f"xtrace: deleted the context {context_id}\n")
    assert context_id not in protected("context list").text
    protected(f"context restore {context_id} again.json").fails("context")
    assert not (protected.folder / "again.json").exists()


def test_a_context_of_lattice_has_no_key_length(protected: Terminal) -> None:
    created = protected("context create mine.json --scheme lattice --dimensions 384 --json").json
    assert created == {
        "context_id": created["context_id"],
        "scheme": "lattice",
        "dimensions": 384,
        "key_provider": "passphrase",
        "format_version": 2,
    }
    assert protected("context show mine.json --json").json == created
    refused = protected("context create other.json --scheme lattice --key-len 1024")
    assert "key_len is 1024, but the scheme lattice does not use it: omit it" in refused.err
    assert refused.status != 0
    assert not (protected.folder / "other.json").exists()
    audited = protected("context audit mine.json")
    assert "the context's scheme is lattice, which has no public key to attack" in audited.err
    assert audited.status != 0


def test_the_same_as_json(protected: Terminal) -> None:
    created = protected("context create mine.json --scheme paillier --dimensions 1024 --json").json
    assert created == {
        "context_id": created["context_id"],
        "scheme": "paillier",
        "dimensions": 1024,
        "key_len": 1024,
        "encoding": "base3",
        "key_provider": "passphrase",
        "format_version": 2,
    }
    context_id = created["context_id"]
    assert protected("context show mine.json --json").json == created
    assert protected("context save mine.json --json").json == {"context_id": context_id}
    (listed,) = protected("context list --json").json
    assert datetime.fromisoformat(listed.pop("created_at")) <= datetime.now(UTC)
    assert listed == {"context_id": context_id, "scheme": "paillier", "restorable": True, "kb_ids": []}
    assert protected(f"context restore {context_id} copy.json --json").json == created
    deleted = protected(f"context delete {context_id} --yes --json").json
    assert deleted == {"context_id": context_id, "deleted": True}
    assert protected("context list --json").json == []


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ("--private-metadata facets --private-metadata tag1", ["tag1", "facets"]),
        ("--private-metadata all", ["tag1", "tag2", "tag3", "tag4", "tag5", "facets"]),
    ],
)
def test_private_metadata_is_chosen_at_creation_and_shown(protected: Terminal, options: str, fields: list[str]) -> None:
    created = protected(f"context create mine.json --dimensions 64 {options} --json").json
    assert created["private_metadata"] == fields
    assert ExecutionContext.load_from_disk(PASSPHRASE, protected.folder / "mine.json").private_metadata == tuple(fields)
    assert f"private metadata  {', '.join(fields)}" in protected("context show mine.json").text.splitlines()
    refused = protected("context create other.json --private-metadata tag6")
    assert (refused.status, refused.out) == (2, "")


def test_show_needs_no_passphrase_and_shows_nothing_secret(xtrace: Terminal) -> None:
    xtrace("context create mine.json --dimensions 64", XTRACE_PASSPHRASE=PASSPHRASE)
    stored = json.loads((xtrace.folder / "mine.json").read_text())
    shown = xtrace("context show mine.json")
    assert shown.text.splitlines() == [
        f"context id      {stored['id']}",
        "scheme          paillier_lookup",
        "dimensions      64",
        "key len         1024",
        "alpha len       512",
        "encoding        base4",
        "key provider    passphrase",
        "format version  2",
    ]
    assert stored["sk"] not in shown.out
    assert stored["wrapped_key"] not in shown.out


def test_another_clients_context_is_shown_without_an_id(shell: Terminal) -> None:
    vectors = Path(__file__).parents[1] / "vectors" / "existing-client" / "paillier.json"
    (shell.folder / "other.json").write_text(json.dumps(json.loads(vectors.read_text())["context"]))
    shown = shell("context show other.json --json").json
    assert shown == {"scheme": "paillier", "dimensions": 64, "key_len": 1024, "key_provider": "passphrase"}


def test_the_passphrase_is_asked_for_and_not_echoed(xtrace: Terminal) -> None:
    created = xtrace.watched("context create mine.json --dimensions 8", PASSPHRASE, PASSPHRASE)
    assert created.status == 0
    assert created.err == "Passphrase for the new context: \nConfirm passphrase: \n"
    context_id = created.text
    saved = xtrace.watched("context save mine.json", PASSPHRASE)
    assert (saved.text, saved.err) == (context_id, "Passphrase: \n")
    restored = xtrace.watched(f"context restore {context_id} copy.json", PASSPHRASE)
    assert (restored.text, restored.err) == (context_id, "Passphrase: \n")


def test_two_different_passphrases_make_no_context(xtrace: Terminal) -> None:
    refused = xtrace.watched("context create mine.json", PASSPHRASE, WRONG_PASSPHRASE)
    assert (refused.status, refused.out) == (1, "")
    assert refused.err.endswith("xtrace: the two passphrases differ\n")
    refused = xtrace.watched("context create mine.json", "")
    assert refused.err.endswith("xtrace: no passphrase was given\n")
    assert not (xtrace.folder / "mine.json").exists()


def test_the_passphrase_file_goes_before_the_environment(xtrace: Terminal) -> None:
    (xtrace.folder / "passphrase").write_text(PASSPHRASE + "\n")
    line = "--passphrase-file passphrase"
    created = xtrace(f"context create mine.json --dimensions 8 {line}", XTRACE_PASSPHRASE=WRONG_PASSPHRASE)
    context_id = created.text
    assert xtrace("context save mine.json", XTRACE_PASSPHRASE=PASSPHRASE).text == context_id
    xtrace("context save mine.json", XTRACE_PASSPHRASE=WRONG_PASSPHRASE).fails("passphrase or key is wrong")


def test_a_wrong_or_missing_passphrase_is_one_sentence(protected: Terminal) -> None:
    context_id = protected("context create mine.json --dimensions 8").text
    protected("context save mine.json", XTRACE_PASSPHRASE="").fails("give --passphrase-file, or set", status=2)
    protected("context save mine.json")
    wrong = protected(f"context restore {context_id} copy.json", XTRACE_PASSPHRASE=WRONG_PASSPHRASE)
    wrong.fails("passphrase or key is wrong")
    assert not (protected.folder / "copy.json").exists()
    protected("context save mine.json --passphrase-file nowhere").fails("nowhere: No such file or directory")
    (protected.folder / "empty").write_text("\n")
    protected("context save mine.json --passphrase-file empty").fails("empty is empty")
    (protected.folder / "binary").write_bytes(b"\xff\xfe")
    protected("context save mine.json --passphrase-file binary").fails("is not valid UTF-8")


def test_a_context_is_never_overwritten(protected: Terminal) -> None:
    context_id = protected("context create mine.json --dimensions 8").text
    before = (protected.folder / "mine.json").read_bytes()
    protected("context create mine.json").fails("mine.json exists")
    protected(f"context restore {context_id} mine.json").fails("mine.json exists")
    assert (protected.folder / "mine.json").read_bytes() == before


def test_what_is_no_context_is_one_sentence(protected: Terminal) -> None:
    (protected.folder / "text").write_text("no context")
    for command in ("show", "save"):
        protected(f"context {command} nowhere.json").fails("nowhere.json cannot be read")
        protected(f"context {command} text").fails("the file text is not a saved context")
    protected("context restore 00 mine.json").fails("context")
    protected("context delete 00 --yes").fails("context")
    protected("context create no/../text").fails("exists")
    protected("context create weak.json --key-len 512").fails("key_len is 512")
    usage = protected("context create x.json --dimensions 0")
    assert usage.status == 2
    assert list(protected.folder.glob("*.json")) == []


def test_deleting_asks_and_a_context_in_use_stays(protected: Terminal, http: Http) -> None:
    context_id = http.save_context()
    kb_id = http.new_kb()
    http.insert(kb_id, [chunk()], context_id)
    protected(f"context delete {context_id}").fails("add --yes", status=2)
    refused = protected.watched(f"context delete {context_id}", "n")
    assert refused.err.startswith(f"Delete the context {context_id} from the service?")
    assert refused.status == 1
    protected(f"context delete {context_id} --yes").fails("chunks")
    (listed,) = protected("context list --json").json
    assert (listed["context_id"], listed["restorable"], listed["kb_ids"]) == (context_id, False, [kb_id])
    assert "no: only its file has the keys" in protected("context list").out
