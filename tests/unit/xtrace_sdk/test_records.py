"""Records and filters before anything is encrypted: what is valid, how values compare, what the service is asked."""

import pickle
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest

from xtrace_sdk import Hit, Range, Record, Written
from xtrace_sdk.collection.filterable import FilterableFields
from xtrace_sdk.collection.matching import matches
from xtrace_sdk.collection.metadata import MAX_DEPTH, as_text, at_path, checked, flat
from xtrace_sdk.collection.record import checked_record
from xtrace_sdk.collection.service_filter import Bounds, bounds
from xtrace_sdk.collection.tokens import COUNTS, Tokens
from xtrace_sdk.collection.values import as_moment, compares, moment, order_key, same, scalar_key
from xtrace_sdk.collection.where import MAX_PATH_CHARACTERS, OPERATORS, parse_where
from xtrace_sdk.errors import InvalidArgument, InvalidFilter, InvalidRecord, UnknownContent

SECRET = "Popocatépetl"


class Keyed:
    """The one thing that hashes need of a context."""

    def pseudonym(self, purpose: str, *values: str) -> str:
        return f"{purpose} {values}"


def tokens(namespace: str = "") -> Tokens:
    return Tokens(Keyed(), namespace)  # type: ignore[arg-type]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# Records

INVALID: list[tuple[Any, str]] = [
    ({}, "record 7: its id is None"),
    ({"id": ""}, "its id is a text of 0 characters, expected a text of 1 to 4096"),
    ({"id": "x" * 5000}, "its id is a text of 5000 characters"),
    ({"id": 7}, "its id is 7, expected a text"),
    ({"id": "\ud800"}, "its id contains unpaired surrogates"),
    ({"id": SECRET, "content": "y"}, "keys other than created_at, id, metadata, text, updated_at, vector"),
    ([SECRET], "it is a list with keys other than"),
    (SECRET, "it is a str with keys other than"),
    (None, "it is None with keys other than"),
    ({"id": SECRET, "text": b"y"}, "its text is a bytes, expected a text or None"),
    ({"id": SECRET, "text": "\udfff"}, "its text contains unpaired surrogates"),
    ({"id": SECRET, "metadata": [SECRET]}, "its metadata is a value of type list, expected an object"),
    ({"id": SECRET, "metadata": {1: SECRET}}, "a key that is not a text"),
    ({"id": SECRET, "metadata": {"a": {SECRET}}}, "its metadata has a value of type set, expected JSON"),
    ({"id": SECRET, "metadata": {"a": b"x"}}, "its metadata has a value of type bytes"),
    ({"id": SECRET, "metadata": {"a": [float("nan")]}}, "a number that is not finite"),
    ({"id": SECRET, "metadata": {"a": "\ud800"}}, "its metadata contains unpaired surrogates"),
    ({"id": SECRET, "metadata": {"\ud800": 1}}, "its metadata contains unpaired surrogates"),
    ({"id": SECRET, "metadata": {"a": -(2**2000)}}, r"a whole number beyond 2\^1024"),
    ({"id": SECRET, "metadata": {"a.b": 1, "a": {"b": 2}}}, "two keys in its metadata have the same path"),
    ({"id": SECRET, "metadata": {"a": SECRET * 100_000}}, "its metadata has 1300008 bytes as JSON, at most 1048576"),
    ({"id": SECRET, "metadata": {"a": nested(MAX_DEPTH)}}, "nests deeper than 32 levels"),
]


@pytest.mark.parametrize(("given", "words"), INVALID, ids=range(len(INVALID)))
def test_a_record_that_is_not_valid_is_refused_by_its_position(given: Any, words: str) -> None:
    with pytest.raises(InvalidRecord, match=words) as error:
        checked_record(7, given)
    assert str(error.value).startswith("record 7: ")
    assert SECRET not in str(error.value)


def test_types_of_python_become_those_of_json() -> None:
    class Text(str, Enum):  # noqa: UP042 - whose `str` is not its value
        A = "a"

    class Number(IntEnum):
        ONE = 1

    given = {
        Text.A: Text.A, "n": Number.ONE, "np": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True), "t": (1, (2,)),
        "date": date(2026, 3, 1), "time": datetime(2026, 3, 1, 12, tzinfo=UTC), "np text": np.str_("x"),
    }  # fmt: skip
    copied = checked(given)
    assert copied == {
        "a": "a", "n": 1, "np": 0.5, "i": 3, "b": True, "t": [1, [2]], "date": "2026-03-01",
        "time": "2026-03-01T12:00:00+00:00", "np text": "x",
    }  # fmt: skip
    assert [type(key) for key in copied] == [str] * 9
    assert {type(value) for value in copied.values()} == {str, int, float, bool, list}
    assert as_text(copied).startswith('{"a":"a","n":1,')


def test_metadata_is_copied() -> None:
    given = {"a": {"b": [1]}}
    record = checked_record(0, Record("x", metadata=given))
    given["a"]["b"].append(2)
    assert record.metadata == {"a": {"b": [1]}}


def test_paths_lead_through_objects_and_keys_with_dots() -> None:
    metadata = {"a": {"b": {"c": 1}, "x.y": 2}, "d.e": {"f": 3}, "": 4, "l": [{"m": 5}], "n": None}
    assert {path for path, _ in flat(metadata)} == {
        "a", "a.b", "a.b.c", "a.x.y", "d.e", "d.e.f", "", "l", "n",
    }  # fmt: skip
    for path, value in flat(metadata):
        assert at_path(metadata, path) == value
    for missing in ("b", "a.c", "l.m", "d", "d.e.f.g", "n.o", "a."):
        assert at_path(metadata, missing) is None


def test_what_comes_out_shows_no_text_and_can_be_pickled() -> None:
    record = Record("x", SECRET, {"a": SECRET}, [1.0])
    assert repr(record) == "Record(id='x')"
    assert repr(Hit(record, 0.5, 3)) == "Hit(record=Record(id='x'), similarity=0.5, distance=3)"
    assert pickle.loads(pickle.dumps(record)) == record  # noqa: S301
    written = Written(("a", SECRET), ("b",))
    assert repr(written) == "Written(2 inserted, 1 replaced, 0 skipped)"
    assert written.count == 3


# Values


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 1.0, True), (1, True, False), (0, False, False), (1, "1", False), (True, "true", False), (None, 0, False),
        (-0.0, 0, True), (2**53 + 1, float(2**53 + 1), False), ([1, "a"], [1.0, "a"], True), ([1], [True], False),
        ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"a": True}, False), ({}, [], False), ("é", "e\u0301", False),
    ],
)  # fmt: skip
def test_values_are_equal_with_their_types(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected
    assert same(other, one) is expected
    if not isinstance(one, list | dict):
        assert (scalar_key(one) == scalar_key(other)) is expected


def test_times_are_those_of_iso_8601() -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for text in ("2026-03-01T12:00:00Z", "2026-03-01 13:00+01:00", "2026-03-01T12:00", "2026-03-01T07:00:00.000-0500"):
        assert moment(text) == noon
    assert moment("2026-03-01") == as_moment(date(2026, 3, 1)) == datetime(2026, 3, 1, tzinfo=UTC)
    for other in ("20260301", "2026-3-1", "2026-02-30", "2026-03-01T25:00Z", "2026-03-01x", "٢٠٢٦-03-01", "", 20260301):
        assert moment(other) is None
    assert same("2026-03-01T12:00:00Z", noon)
    assert not same("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00")  # as texts they differ
    assert compares("gte", "2026-03-01T12:00:00Z", "2026-03-01T13:00:00+01:00")
    assert not compares("gt", "noon", noon)
    assert compares("gt", "2026-3-1", "2026-03-02")  # not times, so texts


def test_what_cannot_be_compared_is_neither_greater_nor_less() -> None:
    for value, operand in ((1, "1"), ("1", 1), (None, 1), (True, 0), ([1], 0), ({}, 0)):
        assert not any(compares(ordering, value, operand) for ordering in ("gt", "gte", "lt", "lte"))


def test_the_order_is_by_kind_and_then_by_value() -> None:
    ordered = [False, True, -1, 0.5, 2, "2025-01-01", "2026-01-01T00:00+02:00", "2026-01-01", "A", "a", [1], {"a": 1}]
    assert sorted([None, *ordered[::-1]], key=order_key) == [*ordered, None]


# `where`


INVALID_FILTERS: list[tuple[Any, str]] = [
    ("{", "where is a text that is not valid JSON"),
    ([], "where is an empty list, expected an object"),
    ({"$and": []}, r"where.\$and is an empty list, expected a list of at least one filter"),
    ({"$or": {"a": 1}}, r"where.\$or is an object, expected a list"),
    ({"$not": [1]}, r"where.\$not is a list, expected an object"),
    ({"$gt": 1}, r"where.\$gt is not a logical operator, expected \$and, \$or, \$nor or \$not"),
    ({"a": {"$regex": "x"}}, r"where.a.\$regex is not an operator, expected one of \$eq, \$ne"),
    ({"a": {"$eq": 1, "b": 2}}, "where.a.b is not an operator"),
    ({"a": {"$lt": True}}, r"where.a.\$lt is true, expected a number"),
    ({"a": {"$lt": [1]}}, r"where.a.\$lt is a list, expected a text, a number"),
    ({"a": {"$in": "abc"}}, r"where.a.\$in is a text, expected a list"),
    ({"a": {"$any": [[1]]}}, r"where.a.\$any\[0\] is a list, expected a text, a number"),
    ({"a": {"$exists": 1}}, r"where.a.\$exists is 1, expected true or false"),
    ({"a": {"$size": -1}}, r"where.a.\$size is -1, expected a whole number from 0"),
    ({"a": {"$size": True}}, r"where.a.\$size is true"),
    ({"a": {"$between": [1]}}, r"where.a.\$between has 1 elements, expected .lowest, highest"),
    ({"a": {"$like": 1}}, r"where.a.\$like is 1, expected a text"),
    ({"a": {"$contains": {}}}, r"where.a.\$contains is an empty object"),
    ({"a": {"$not": 1}}, r"where.a.\$not is 1, expected an object of operators; \$ne negates equality"),
    ({"a": {"$not": {"b": 1}}}, r"where.a.\$not is an object, expected an object of operators"),
    ({"a": float("inf")}, "where.a: has a number that is not finite"),
    ({"a": {1}}, "where.a: has a value of type set, expected JSON"),
    ({"a": "\ud800"}, "where.a contains unpaired surrogates"),
    ({1: 2}, "where has a key that is not a path"),
    ({"x" * (MAX_PATH_CHARACTERS + 1): 2}, "a key that is not a path of at most 1024 characters"),
    ({"a": {"$in": [0] * 10_001}}, "where has more than 10000 values in its lists"),
    ({"$or": [{"a": 1}] * 300}, "where has more than 500 operators and nested filters"),
]


@pytest.mark.parametrize(("where", "words"), INVALID_FILTERS, ids=range(len(INVALID_FILTERS)))
def test_a_mistake_in_a_filter_is_one_sentence(where: Any, words: str) -> None:
    with pytest.raises(InvalidFilter, match=words):
        parse_where(where)


def test_filters_nest_at_most_32_levels_deep() -> None:
    def nest(levels: int, inner: Any) -> Any:
        for _ in range(levels):
            inner = {"$not": inner}
        return inner

    parse_where(nest(31, {"a": 1}))
    for too_deep in (nest(32, {"a": 1}), nest(31, {"a": {"$not": {"$not": {"$gt": 1}}}}), nest(5000, {"a": 1})):
        with pytest.raises(InvalidFilter, match="where nests deeper than 32 levels"):
            parse_where(too_deep)


def test_no_filter_matches_everything_but_not_where_it_was_to_be_chosen() -> None:
    everything: list[Any] = [None, "null", {}, "{}"]
    for where in everything:
        assert matches(parse_where(where), {"a": 1})
    assert parse_where({}, is_chosen=True) == parse_where(None)
    for where in everything[:2]:
        with pytest.raises(InvalidFilter, match="where is null"):
            parse_where(where, is_chosen=True)


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        ("a%b", {"$like": "a\\%b"}, True), ("axb", {"$like": "a\\%b"}, False), ("axb", {"$like": "a_b"}, True),
        ("a\nb", {"$like": "a_b"}, True), ("abc", {"$like": "%b%"}, True), ("abc", {"$like": "b"}, False),
        ("abcab", {"$like": "ab%ab"}, True), ("ab", {"$like": "ab%ab"}, False), ("aba", {"$like": "ab%ba"}, False),
        ("", {"$like": "%"}, True), ("x\\", {"$like": "x\\"}, True), ("ABC", {"$like": "abc"}, False),
        ("ÀBC", {"$ilike": "à%"}, True), ("a.c", {"$like": "a.c"}, True), ("abc", {"$like": "a.c"}, False),
        ("a" * 5000, {"$like": "%a" * 200 + "b"}, False), (["a"], {"$like": "a"}, False),
        ("Straße", {"$icontains": "STRASSE"}, True), ("abc", {"$contains": "bc"}, True), (5, {"$contains": "5"}, False),
        ([1, "a"], {"$contains": 1.0}, True), ([True], {"$contains": 1}, False), ([None], {"$contains": None}, True),
        ([], {"$all": []}, True), (None, {"$all": []}, False), ([1], {"$any": []}, False), ([], {"$size": 0}, True),
        (None, {"$exists": False}, True), (None, None, True), ([], {"$exists": True}, True), ({}, {}, True),
        (7, {"$between": [1, 7]}, True), (7.5, {"$between": [1, 7]}, False), (3, {"$in": [1, None]}, False),
        (None, {"$nin": [1, None]}, False), (None, {"$ne": 3}, True), (None, {"$gt": 0}, False),
        (5, {"$gt": None}, False), (None, {"$lte": None}, False), (5, {"$between": [None, 9]}, False),
        (5, {"$not": {"$gt": 3, "$lt": 9}}, False), (None, {"$not": {"$gt": 3}}, True),
    ],
)  # fmt: skip
def test_conditions_decide(value: Any, condition: Any, expected: bool) -> None:
    assert matches(parse_where({"f": condition}), {"f": value}) is expected
    assert matches(parse_where({"o.f": condition}), {"o": {"f": value}}) is expected
    assert matches(parse_where({"$not": {"f": condition}}), {"f": value}) is not expected


def test_ids_and_texts_have_names_that_no_field_has() -> None:
    where = parse_where({"$id": {"$begins_with": "a"}, "$text": {"$contains": "x"}})
    assert matches(where, {}, "abc", "xyz")
    assert not matches(where, {"$id": "abc", "$text": "xyz"}, "b", "xyz")
    assert not matches(where, {}, "abc", None)


def test_every_operator_is_named() -> None:
    assert len(OPERATORS) == len(set(OPERATORS)) == 21


# What the service is asked


def asked(where: Any, filterable: Any = True) -> Bounds:
    return bounds(parse_where(where), FilterableFields.of(filterable), tokens())


@pytest.mark.parametrize(
    "where",
    [
        {"a": 1}, {"a": None}, {"a": {"$ne": "x"}}, {"a": {"$in": [1, "x", None]}}, {"a": {"$exists": True}},
        {"a": {"$any": [1, None]}}, {"a": {"$all": ["x"]}}, {"a": {"$none": ["x"]}}, {"a": {"$contains": 5}},
        {"$or": [{"a": 1}, {"$not": {"b": {"$in": [2]}}}]}, {"$nor": [{"a": 1}, {"b": 2}]}, {"a": {"$not": {"$eq": 1}}},
    ],
)  # fmt: skip
def test_equality_is_decided_by_the_service_alone(where: Any) -> None:
    assert asked(where).is_exact
    assert not isinstance(asked(where).wide, bool)
    assert asked(where, ["c"]) == Bounds(True, False)


def test_what_hashes_cannot_tell_is_left_to_the_client() -> None:
    partly: list[Any] = [{"$gt": 1}, {"$like": "x%"}, {"$contains": "x"}, [1], {"b": 1}]
    for where in ({"a": condition} for condition in partly):
        assert not asked(where).is_exact
        assert not isinstance(asked(where).wide, bool)
    for name in ("$id", "$text"):
        assert asked({name: "x"}) == Bounds(True, False)
    assert asked({"a": {"$in": []}}) == Bounds(False, False)
    assert asked({"$and": [{"a": {"$in": []}}, {"$text": "x"}]}) == Bounds(False, False)


def test_more_than_a_service_takes_is_left_to_the_client() -> None:
    many = {"$or": [{"a": {"$gt": i}} for i in range(240)]}
    assert asked(many, {"a": Range(0, 1, 1)}).wide is not True
    large = {"$and": [{"a": {"$in": list(range(5000))}}, {"a": {"$any": list(range(4990))}}, {"a": {"$size": 1}}]}
    assert asked(large).wide is not True
    assert asked({"$or": [{"a": {"$contains": str(i)}} for i in range(200)]}) == Bounds(True, False)


def test_hashes_tell_fields_types_statements_and_namespaces_apart() -> None:
    made = tokens()
    values = [None, True, False, 0, 1, "", "1", "True", "b1", "n1", "s1", 1.5]
    different = [made.equals("a", value) for value in values] + [made.element("a", value) for value in values]
    different += [made.has("a"), made.is_list("a"), made.has("a1"), made.equals("a1", ""), made.equals("a", "1:a")]
    different += [made.bucket("a", (0, 1)), made.bucket("a", (1, 0)), made.bucket("a", (0, 10)), tokens("n").has("a")]
    different += [made.all_records, made.with_vector, made.kept]
    assert len(set(different)) == len(different)
    assert all(token is not None and len(token) == 33 and token.startswith("#") for token in different)
    assert made.equals("a", 1) == made.equals("a", 1.0)
    assert made.equals("a", [1]) is made.element("a", {}) is None


def test_hashes_are_filled_up_and_bounded() -> None:
    made, fields = tokens(), FilterableFields.of(True)
    assert len(made.of({}, fields, "x")) == COUNTS[0]
    assert len(made.of({f"f{i}": i for i in range(10)}, fields, "x")) == 20
    assert made.of({}, fields, "x") != made.of({}, fields, "y")
    assert len(made.of({"a": list(range(1022))}, fields, "x")) == 1024
    with pytest.raises(InvalidRecord, match="needs 1025 hashes to be filterable, at most 1024 are allowed"):
        made.of({"a": list(range(1023))}, fields, "x")
    assert made.of({"a": list(range(5000))}, FilterableFields.of(["b"]), "x") == made.of({}, fields, "x")


# What is filterable


def test_a_field_stands_for_what_is_inside_it() -> None:
    fields = FilterableFields.of(["author", "a.b"])
    assert [fields.covers(path) for path in ("author", "author.name", "authors", "a", "a.b", "a.b.c", "a.c")] == [
        True, True, False, False, True, True, False,
    ]  # fmt: skip
    assert FilterableFields.of({"*": True, "n": Range(0, 1, 1)}).covers("anything")
    assert not FilterableFields.of(False).covers("a")
    but = FilterableFields.of({"*": True, "a": False, "a.b": True, "a.b.c": False})
    assert [but.covers(path) for path in ("z", "a", "a.x", "a.b", "a.b.x", "a.b.c", "a.b.c.d", "ab")] == [
        True, False, False, True, True, False, False, True,
    ]  # fmt: skip
    assert (FilterableFields.of(False).is_empty, FilterableFields.of([]).is_empty) == (True, True)


@pytest.mark.parametrize(
    "chosen", ["author", 7, [7], [""], {"a": False}, {"a": (0, 1, 1)}, {"a": None}, ["a"] * 2 + [None]]
)
def test_other_choices_are_refused(chosen: Any) -> None:
    with pytest.raises(InvalidArgument, match="filterable"):
        FilterableFields.of(chosen)


def test_a_choice_is_kept_and_read_again() -> None:
    for chosen in (True, False, ["b", "a"], {"*": True, "n": Range(0, 10, 0.1)}, {"*": True, "n": False}):
        fields = FilterableFields.of(chosen)
        assert FilterableFields.from_object(fields.as_object()) == fields
    damages: list[Any] = [None, [], {"a": 1}, {"a": [1, 2]}, {"a": [2, 1, 1]}, {"": None}, {"a": True}]
    for damaged in damages:
        with pytest.raises(UnknownContent, match="a format that this version does not support"):
            FilterableFields.from_object(damaged)


@pytest.mark.parametrize(
    "numbers",
    [(1, 1, 1), (2, 1, 1), (0, 1, 0), (0, 1, -1), (0, float("inf"), 1), (0, 1e9, 1), (0, True, 1), ("0", 1, 1)],
)
def test_a_range_has_a_bounded_number_of_steps(numbers: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"range|finite number"):
        Range(*numbers)


def test_buckets_hold_four_of_the_next_smaller_ones() -> None:
    span = Range(0, 1000, 1)
    assert (span.last, span.levels) == (1000, 5)
    assert span.buckets(77) == [(0, 77), (1, 19), (2, 4), (3, 1), (4, 0)]
    assert span.buckets(-5) == span.buckets(0)
    assert span.buckets(1e300) == span.buckets(10**400) == span.buckets(1000)
    assert span.covering("lt", 1000) == [(4, 0), (4, 1), (4, 2), (4, 3)] or len(span.covering("lt", 1000)) < 20
    assert span.covering("gt", 1001) == [(0, 1000)]
