"""`xtrace search`: what it finds, how it looks, and what bad input gets."""

import json
import re
import shlex

import pytest

from cli.conftest import PASSPHRASE, WRONG_PASSPHRASE
from support.inside import Inside
from support.library import LOCKED
from support.terminal import Terminal


def where(condition: object) -> str:
    return f"--where {shlex.quote(json.dumps(condition))}"


def test_the_nearest_come_first_with_their_source_and_similarity(library: Terminal) -> None:
    found = library("search 'Which animal is napping?' -k 2")
    first, second = found.text.split("\n\n")
    assert re.fullmatch(
        r"1\. notes/cat\.txt, line 1 \(0\.\d\d\)\n   The cat is asleep on the warm radiator\.", first
    ), first
    assert second.startswith("2. ")
    assert found.err == ""
    lease = library("search 'How do I end the contract for the flat?' -k 1").text
    assert lease.startswith("1. notes/lease.pdf, page 3, Termination (")
    assert "three months before" in lease


def test_the_other_words_for_it_are_the_same_command(inside: Inside) -> None:
    line = "'unpaid bills' -k 2 --scores"
    found = inside(f"search {line}").text
    assert found.startswith("1. notes/tax.md, lines 1-4, Open > Invoices (similarity 0.")
    assert re.search(r"\(similarity 0\.\d{3}, distance \d+\)", found)
    assert inside(f"xvec retrieve {line}").text == inside(f"xvec query {line}").text == found


def test_json_has_everything_and_the_time_of_each_stage(inside: Inside) -> None:
    found = inside("search 'Which animal is napping?' -k 1 --timing --json").json
    assert set(found) == {"kb_id", "hits", "mode", "seconds"}
    (hit,) = found["hits"]
    assert set(hit) == {"id", "similarity", "distance", "source", "place", "text", "metadata"}
    assert (hit["id"], hit["source"], hit["place"]) == ("notes/cat.txt#0", "notes/cat.txt", "line 1")
    assert hit["text"] == "The cat is asleep on the warm radiator."
    assert hit["metadata"]["tag1"] == "home"
    stages = ["open", "embed", "encrypt", "search", "fetch", "decrypt", "rescore", "in all"]
    assert list(found["seconds"]) == stages
    parts = list(found["seconds"].values())
    assert 0 < sum(parts[:-1]) <= parts[-1]
    spoken = inside("search cat -k 1 --timing")
    assert re.fullmatch(
        r"xtrace: on the service; " + ", ".join(rf"{name} \d+\.\d{{3}} s" for name in stages) + "\n", spoken.err
    )
    assert "seconds" not in inside("search cat -k 1 --json").json


def test_filters_and_thresholds_leave_out(inside: Inside) -> None:
    def ids(line: str) -> list[str]:
        return [hit["id"] for hit in inside(f"search 'the cat' --json {line}").json["hits"]]

    assert ids(where({"format": {"$in": ["pdf", "md"]}})) in (
        ["notes/tax.md#0", "notes/lease.pdf#0"],
        ["notes/lease.pdf#0", "notes/tax.md#0"],
    )
    assert ids(where({"page": {"$gte": 3}})) == ["notes/lease.pdf#0"]
    assert ids("--min-similarity 0.4") == ["notes/cat.txt#0"]
    nothing = inside(f"search cat {where({'format': 'docx'})}")
    assert (nothing.status, nothing.out, nothing.err) == (0, "", "xtrace: no results\n")
    assert inside(f"search cat --json {where({'format': 'docx'})}").json["hits"] == []


def test_a_question_comes_from_standard_input(inside: Inside) -> None:
    assert inside("search - -k 1", typed="Which animal\nis napping?\n").text.startswith("1. notes/cat.txt")
    inside("search -", typed=" \n").fails("the question is empty", status=2)
    inside("search ''").fails("the question is empty", status=2)
    inside("search -", typed="a" * 100_001).fails("more than 100,000 characters", status=2)


def test_the_words_that_matter_stand_out_on_a_terminal(library: Terminal) -> None:
    screen = library.on_screen("search 'Where do the cats sleep?' -k 1").out
    assert "The \x1b[1mcat\x1b[0m is asleep on the warm radiator." in screen


def test_stored_text_cannot_steer_the_terminal(inside: Inside, library: Terminal) -> None:
    line = f"search 'red letters' -k 1 {where({'tag1': 'odd'})}"
    for text in (inside(line).text, inside(f"{line} --whole").text):
        assert "A title �]0;changed� and �[31mred�[0m letters, �reversed." in text
    screen = library.on_screen(line).out
    assert set(re.findall(r"\x1b.{0,3}", screen)) == {"\x1b[1m", "\x1b[0m"}
    assert "\u202e" not in screen
    printed = inside(f"{line} --json")
    assert "\x1b" not in printed.out
    assert printed.json["hits"][0]["text"].startswith("A title \x1b]0;changed\x07")


def test_a_narrow_terminal_gets_narrow_lines(library: Terminal) -> None:
    lines = library.on_screen("search 'unpaid invoice' -k 3", columns=40, NO_COLOR="1").out.splitlines()
    assert not any("\x1b" in line for line in lines)
    assert max(map(len, lines)) <= 40
    assert any(line.startswith("1. notes/tax.md") for line in lines)


@pytest.mark.full
def test_an_encoding_that_cannot_print_is_no_obstacle(library: Terminal) -> None:
    found = library(f"search 'red letters' -k 1 {where({'tag1': 'odd'})}", PYTHONIOENCODING="iso8859-5")
    assert "A title ?]0;changed?" in found.text


@pytest.mark.full
def test_a_pipe_that_closes_ends_it_quietly(library: Terminal) -> None:
    ended = library.into_closed_pipe("search cat -k 5 --json")
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") <= 1


def test_what_bad_input_gets(inside: Inside) -> None:
    inside("search cat --kb documnets").fails("the knowledge base documnets does not exist: did you mean documents?")
    listed = inside("kb list --json").json
    assert [kb["name"] for kb in listed] == ["documents"]  # none was created
    locked = f"search cat --context {LOCKED}"
    inside(locked, XTRACE_PASSPHRASE=WRONG_PASSPHRASE).fails("passphrase or key is wrong")
    inside("\\reload")
    inside("search cat", XTRACE_API_URL="http://127.0.0.1:1").fails("cannot reach http://127.0.0.1:1")
    inside("\\reload")
    inside("search cat", XTRACE_API_KEY="0" * 40).fails("key")
    inside("\\reload")
    assert inside(locked, XTRACE_PASSPHRASE=PASSPHRASE).status == 0
    inside("search cat --context nowhere.json").fails("nowhere.json")
    inside("search cat --credentials nowhere.json").fails("nowhere.json")
    inside("search cat --where '{'").fails("not valid JSON")
    inside('search cat --where \'{"page": {"$near": 1}}\'').fails("$near")
    for line, sentence in (
        ("search", "Missing argument 'QUESTION'"),
        ("search cat -k 0", "greater than or equal to 1"),
        ("search cat --min-similarity 2", "less than or equal to 1"),
    ):
        ended = inside(line)
        assert (ended.status, ended.out) == (2, "")
        assert sentence in ended.err


def test_a_full_disk_is_one_sentence(library: Terminal) -> None:
    ended = library.into("search cat", "/dev/full")
    assert ended.status == 1
    assert ended.err == "xtrace: the output cannot be written: No space left on device\n"
