"""The ids and the metadata of what `xtrace load` stores."""

import os
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.examples import ROOT
from xtrace_cli.documents.records import (
    FILTERABLE,
    OWN_FIELDS,
    TAGS,
    FileState,
    Place,
    decoded_path,
    encoded_path,
    head_of,
    path_and_position,
    record_id,
    shown_source,
)
from xtrace_sdk import Record
from xtrace_sdk.collection.filterable import FilterableFields

NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {0, ord("/")} & set(name) and name not in (b".", b"..")
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: PurePosixPath(os.fsdecode(b"/".join(names))))


@given(PATHS, st.integers(0, 10**11))
def test_an_id_leads_back_to_its_file(path: PurePosixPath, position: int) -> None:
    made = record_id(path, position)
    made.encode()
    assert path_and_position(made) == (path, position)
    shown_source(path).encode()


@given(PATHS, PATHS)
def test_different_paths_have_different_ids(one: PurePosixPath, other: PurePosixPath) -> None:
    assert (encoded_path(one) == encoded_path(other)) == (one == other)
    assert decoded_path(encoded_path(one)) == one


def test_names_are_shown_as_they_are() -> None:
    assert shown_source(PurePosixPath("notes/100 % sure.md")) == "notes/100 % sure.md"
    assert shown_source(PurePosixPath(os.fsdecode(b"notes/caf\xe9.md"))) == "notes/caf%E9.md"


@pytest.mark.parametrize("other", ["", "notes", "#0", "notes#", "notes#-1", "notes#x", "notes#0x1"])
def test_ids_of_other_programs_are_told_apart(other: str) -> None:
    assert path_and_position(other) is None


def test_heads_are_told_apart() -> None:
    file = {"digest": "a", "chunks": 3, "root": "/home/me"}
    assert head_of(Record("notes/a.md#0", "", {"file": file})) == (
        PurePosixPath("notes/a.md"),
        FileState("a", 3, "/home/me"),
    )
    for other in (
        Record("notes/a.md#1", "", {"file": file}),
        Record("notes/a.md#0", "", {}),
        Record("notes/a.md#0", "", {"file": "a"}),
        Record("invoice", "", {"file": file}),
    ):
        assert head_of(other) is None


def test_a_file_may_have_records_up_to_the_greater_of_both_bounds() -> None:
    assert (FileState("a", 3, "/").positions, FileState("a", 3, "/").is_complete) == (range(3), True)
    assert (FileState("a", 3, "/", extent=5).positions, FileState("a", 3, "/", extent=5).is_complete) == (
        range(5),
        False,
    )
    assert not FileState("", 3, "/").is_complete


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place(page=3, heading="Terms > Payment"), "page 3, Terms > Payment"),
        (Place(lines="12-40", heading="Soup"), "lines 12-40, Soup"),
        (Place(sheet="2026-27", row="2-15"), "sheet 2026-27, rows 2-15"),
        (Place(cell=4, lines="1-3"), "cell 4"),
        (Place(lines="7"), "line 7"),
        (Place(title="Cooking"), ""),
    ],
)
def test_a_place_is_shown_to_people_and_kept(place: Place, text: str) -> None:
    assert str(place) == text
    assert Place.of(place.metadata()) == place


def test_fields_of_other_types_are_no_place() -> None:
    assert Place.of({"page": "3", "cell": True, "heading": 7, "lines": ["1"]}) == Place()


def test_the_page_lists_every_field_and_what_is_filterable() -> None:
    page = (ROOT / "docs" / "loading.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    listed = {name.strip("` |"): row[-1].strip(" |") for row in rows for name in row[0].replace("…", ",").split(",")}
    assert set(listed) - {"your own names"} == {*OWN_FIELDS, TAGS[0], TAGS[-1], "facets"}
    fields = FilterableFields.of(FILTERABLE)
    for name, says in listed.items():
        assert fields.covers(name) == (says != "no"), name
    assert not any(fields.covers(f"file.{name}") for name in FileState.__struct_fields__)
    assert fields.covers("brought.later")
