"""`xtrace xvec`: records in, out and away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.inside import Inside
from support.library import STEERING
from support.terminal import Terminal
from xtrace_cli.commands import xvec_upsert


@pytest.fixture
def letters(inside: Inside) -> Iterator[Inside]:
    """The same shell, with an empty knowledge base `letters`."""
    inside("kb create letters")
    yield inside
    inside("kb delete letters --yes")


def ids(letters: Inside, line: str = "") -> list[str]:
    return [record["id"] for record in letters(f"xvec head --kb letters --json {line}").json]


def test_one_text_from_its_storing_to_its_end(letters: Inside) -> None:
    line = "xvec upsert 'The March invoice is unpaid.' --kb letters --id invoice --metadata '{\"topic\": \"finance\"}'"
    assert letters(line).text == "1 inserted, 0 replaced, 0 skipped"
    assert letters(f"{line} --json").json == {"inserted": 0, "replaced": 1, "skipped": 0}
    assert letters(f"{line} --on-conflict skip").text == "0 inserted, 0 replaced, 1 skipped"
    letters(f"{line} --on-conflict fail").fails("in the collection already")
    assert letters("xvec upsert - --kb letters --id note", typed="From a pipe.\n").status == 0
    (record,) = letters("xvec fetch invoice --kb letters --json").json
    assert set(record) == {"id", "text", "metadata", "created_at", "updated_at"}
    assert (record["text"], record["metadata"]) == ("The March invoice is unpaid.", {"topic": "finance"})
    assert letters("xvec fetch note --kb letters").text == "note\n   From a pipe."
    assert letters("search 'open bills' -k 1 --kb letters").text.startswith("1. invoice (0.")
    assert letters("xvec count --kb letters").text == "2"
    assert letters('xvec count --kb letters --where \'{"topic": "finance"}\' --json').json == {"count": 1}
    gone = letters("xvec delete invoice --kb letters --yes")
    assert (gone.status, gone.out, gone.err) == (0, "", "xtrace: deleted 1 records\n")
    assert ids(letters) == ["note"]


def test_a_file_of_records_comes_back_as_it_went_in(
    letters: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xvec_upsert, "_BATCH", 2)
    records = [{"id": f"r{n}", "text": f"Letter {n}", "metadata": {"n": n}} for n in range(5)]
    file = tmp_path / "records.jsonl"
    file.write_text("\n\n".join(map(json.dumps, records)))
    stored = letters(f"xvec upsert-file {file} --kb letters --json").json
    assert stored == {"inserted": 5, "replaced": 0, "skipped": 0}
    fetched = letters("xvec fetch r4 r0 r1 r2 r3 --vectors --kb letters --json")
    (tmp_path / "again.json").write_text(fetched.out)
    assert [len(record["vector"]) for record in fetched.json] == [256] * 5
    again = letters(f"xvec upsert-file {tmp_path / 'again.json'} --kb letters --on-conflict skip")
    assert again.text == "0 inserted, 0 replaced, 5 skipped"
    assert ids(letters) == ["r0", "r1", "r2", "r3", "r4"]
    assert ids(letters, "-n 2 --order-by n --descending") == ["r4", "r3"]
    assert ids(letters, '--where \'{"n": {"$lt": 2}}\'') == ["r0", "r1"]
    assert letters('xvec delete --where \'{"n": {"$gte": 3}}\' --kb letters --yes --json').json == {"deleted": 2}
    assert letters("xvec delete --where '{}' --kb letters --yes --json").json == {"deleted": 3}


def test_an_interrupted_file_says_what_is_stored(
    letters: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xvec_upsert, "_BATCH", 2)
    file = tmp_path / "records.jsonl"
    file.write_text('{"id": "a"}\n{"id": "b"}\n{"id": 3}\n')
    ended = letters(f"xvec upsert-file {file} --kb letters")
    assert ended.status == 1
    first, second = ended.err.splitlines()
    assert first == "xtrace: 2 records are stored: run the same command again to continue"
    assert "its id is 3" in second
    assert ids(letters) == ["a", "b"]


def test_what_is_stored_cannot_steer_the_terminal(inside: Inside) -> None:
    for line in ("xvec head", "xvec fetch steering"):
        printed = inside(line).text
        assert "A title �]0;changed�" in printed
    assert inside("xvec fetch steering --json").json[0]["text"] == STEERING
    assert inside("xvec fetch bare").text == 'bare\n   {"topic":"none"}'


def test_what_bad_input_gets(inside: Inside, tmp_path: Path) -> None:
    some = inside("xvec fetch notes/cat.txt#0 notes/cat.text#0")
    assert some.status == 1
    assert "The cat is asleep" in some.out
    assert some.err == ("xtrace: 1 of 2 records do not exist: notes/cat.text#0: did you mean notes/cat.txt#0?\n")
    inside("xvec delete --yes").fails("name either ids or a filter", status=2)
    inside("xvec delete steering --where '{}' --yes").fails("name either ids or a filter", status=2)
    inside("xvec delete steering").fails("add --yes", status=2)
    inside("xvec head --where '{'").fails("not valid JSON")
    inside("xvec upsert cat --id c --kb nowhere").fails("the knowledge base nowhere does not exist")
    inside("xvec upsert cat --id ''").fails("its id is a text of 0 characters")
    inside("xvec upsert cat --id c --metadata '[1]'").fails("--metadata is not valid", status=2)
    inside("xvec upsert-file nowhere.jsonl").fails("cannot be read from nowhere.jsonl: No such file")
    for content, sentence in (
        (b"[1]", "is not a list of objects"),
        (b'{"id": "a"', "line 1 of"),
        (b"\n\xff\n", "line 2 of"),
        (b'{"id": "a", "txt": "b"}', "with keys other than"),
        (b"[" * 100_000, "is not a list of objects"),
    ):
        (tmp_path / "bad").write_bytes(content)
        inside(f"xvec upsert-file {tmp_path / 'bad'}").fails(sentence)
    assert inside("xvec count").text == "5"


def test_deleting_asks_the_person_at_the_terminal(library: Terminal) -> None:
    refused = library.watched("xvec delete --where '{}'", "n")
    assert refused.status == 1
    assert "Delete 5 records of documents? This cannot be undone. [y/N]" in refused.err
    assert "not confirmed" in refused.err
