"""Searching by words: tokens, the inverted index, BM25, and one order with vectors, against plain references."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xtrace_sdk.x_vec.local.bm25 import bm25
from xtrace_sdk.x_vec.local.fusion import fused
from xtrace_sdk.x_vec.local.tokens import has_digit, tokens
from xtrace_sdk.x_vec.local.words import WordIndex

WORDS = ("a", "b", "c", "ab", "abc", "4010", "x1")
TEXTS = st.lists(st.none() | st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat's asleep.", ["the", "cats", "asleep"]),
        ("Don\u2019t STOP", ["dont", "stop"]),
        ("INV-4010 / v2.1_beta", ["inv", "4010", "v2", "1", "beta"]),
        ("Straße ﬁne Ünïcode", ["strasse", "fine", "ünïcode"]),
        ("東京都 and カ", ["東京", "京都", "and", "カ"]),
        ("한국어abc", ["한국", "국어", "abc"]),
        ("--- !?", []),
        ("a" * 100, ["a" * 40]),
    ],
)
def test_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


@given(st.text())
def test_any_text_has_tokens_that_are_their_own(text: str) -> None:
    for token in tokens(text):
        assert 0 < len(token) <= 40
        assert not any(character.isspace() for character in token)


@given(st.text(alphabet=st.characters(max_codepoint=127)))
def test_ascii_text_has_the_tokens_of_any_text(text: str) -> None:
    # A character beyond ASCII in a word of its own takes the other way through the tokeniser.
    assert tokens(text) == tokens(f"{text} ß")[:-1]


def test_digits() -> None:
    assert has_digit("inv4010")
    assert not has_digit("invoice")


@given(TEXTS)
def test_an_index_knows_which_rows_have_a_token(texts: list[str | None]) -> None:
    index = WordIndex.from_bytes(WordIndex.build(texts).to_bytes())
    counted = [Counter(tokens(text or "")) for text in texts]
    assert index.lengths.tolist() == [sum(one.values()) for one in counted]
    for token in {token for one in counted for token in one}:
        found = index.postings(token)
        assert found is not None
        expected = {row: one[token] for row, one in enumerate(counted) if token in one}
        assert dict(zip(found.rows.tolist(), found.counts.tolist(), strict=True)) == expected
    assert index.postings("zz") is None


@given(st.lists(st.tuples(TEXTS, st.randoms()), min_size=1, max_size=4))
def test_merging_is_building_of_the_kept_texts(segments: list[tuple[list[str | None], object]]) -> None:
    kept = [
        np.array([(i * 7 + j) % 3 > 0 for i in range(len(texts))], np.bool_) for j, (texts, _) in enumerate(segments)
    ]
    merged = WordIndex.merge([WordIndex.build(texts) for texts, _ in segments], kept)
    left = [
        text for (texts, _), keep in zip(segments, kept, strict=True) for text, k in zip(texts, keep, strict=True) if k
    ]
    assert merged.to_bytes() == WordIndex.build(left).to_bytes()


def test_rows_far_apart_and_frequent_tokens() -> None:
    texts = ["rare" if row in (0, 70_000) else "common " * 300 if row == 5 else "" for row in range(70_001)]
    index = WordIndex.from_bytes(WordIndex.build(texts).to_bytes())
    rare, common = index.postings("rare"), index.postings("common")
    assert rare is not None
    assert rare.rows.tolist() == [0, 70_000]
    assert common is not None
    assert common.counts.tolist() == [255]
    assert index.lengths[5] == 300


def test_another_tokeniser_is_refused() -> None:
    written = bytearray(WordIndex.build(["a"]).to_bytes())
    assert written[1] == 1
    written[1] = 2
    with pytest.raises(ValueError, match="tokeniser 2"):
        WordIndex.from_bytes(bytes(written))


def plain_bm25(question: Sequence[str], texts: Sequence[str | None], allowed: Sequence[bool]) -> list[float]:
    """By the formula, a row at a time."""
    rows = [tokens(text or "") for text in texts]
    inside = [row for row, is_allowed in zip(rows, allowed, strict=True) if is_allowed]
    mean = max(sum(map(len, inside)) / len(inside), 1) if inside else 1.0
    scores = []
    for row, is_allowed in zip(rows, allowed, strict=True):
        score = 0.0
        for token in question if is_allowed else ():
            frequency = sum(token in one for one in inside)
            if count := row.count(token):
                idf = math.log1p((len(inside) - frequency + 0.5) / (frequency + 0.5))
                score += idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(row) / mean))
        scores.append(score)
    return scores


def masks(sizes: Sequence[int], flags: Sequence[bool]) -> list[NDArray[np.bool_]]:
    parts = np.split(np.array(flags, np.bool_), np.cumsum(sizes)[:-1])
    return [np.asarray(part, np.bool_) for part in parts]


@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(st.sampled_from([*WORDS, "zz"]), max_size=5), st.data())
def test_bm25_is_the_formula_over_all_segments(
    segments: list[list[str | None]], question: list[str], data: st.DataObject
) -> None:
    texts = [text for segment in segments for text in segment]
    flags = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    found = bm25(question, [WordIndex.build(segment) for segment in segments], masks([len(s) for s in segments], flags))
    assert found.scores.tolist() == pytest.approx(plain_bm25(question, texts, flags), abs=1e-4)


def test_rare_tokens_are_marked() -> None:
    texts = ["common"] * 150 + ["common rare"] + ["invoice 4010"]
    found = bm25(["common", "rare", "4010"], [WordIndex.build(texts)], [np.ones(152, np.bool_)])
    assert np.flatnonzero(found.has_rare).tolist() == [150, 151]


def test_an_exact_number_decides_among_equal_texts() -> None:
    texts = [f"Invoice {number} for consulting, payable within thirty days." for number in range(4000, 4300)]
    index = WordIndex.build(texts)
    for number in range(4000, 4300):
        question = tokens(f"Invoice {number}")
        words = bm25(question, [index], [np.ones(len(texts), np.bool_)]).scores
        order = fused(question, texts, words, [0.9] * len(texts))
        assert texts[int(np.argmax(order))].startswith(f"Invoice {number} ")


def test_adjacent_words_and_similarity_decide_among_equal_words() -> None:
    texts = ["york new times", "the new york times", None]
    equal = np.array([2, 2, 0], np.float32)
    assert np.argmax(fused(tokens("new york"), texts, equal, [0.5, 0.5, 0.5])) == 1
    assert np.argmax(fused(tokens("new"), texts, equal, [0.6, 0.5, 0.5])) == 0
    assert fused([], [], np.empty(0, np.float32), []).tolist() == []
