"""docs/recall.md is what was measured, by a measurement that tells good from bad."""

import json

import numpy as np
from benchmarks import projections
from benchmarks.corpus import python_corpus
from benchmarks.recall import RESULTS, recall
from benchmarks.recall_page import PAGE, page

from docs.examples import ROOT

MEASURED = json.loads(RESULTS.read_text(encoding="utf-8"))
TRIED = json.loads(projections.RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_made_of_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(MEASURED, TRIED), (
        "docs/recall.md is stale: python -m benchmarks.recall_page"
    )


def test_the_readme_rounds_the_same_figures() -> None:
    (minilm,) = [model for model in MEASURED["models"] if model["model"] == "all-MiniLM-L6-v2" and model["bits"] == 512]
    recall_of = {(way["k"], way["rescore"], way["vector_copy"]): way["recall"] for way in minilm["ways"]}
    readme = " ".join((ROOT / "README.md").read_text().split())
    bits, rescored = round(100 * recall_of[10, None, None]), round(100 * recall_of[10, 4, "int8"])
    assert f"512 bits of MiniLM alone find {bits} %, `rescore=4` finds {rescored} %" in readme


def test_64_to_384_dimensions_and_up_to_1023_bits_of_both_models_are_measured() -> None:
    measured = [(model["model"], model["dimensions"], model["bits"]) for model in MEASURED["models"]]
    expected: list[tuple[str, int, int | None]] = [("wordllama l2_supercat", dim, None) for dim in (64, 128)]
    for name, dim in (("wordllama l2_supercat", 256), ("all-MiniLM-L6-v2", 384)):
        expected += [(name, dim, bits) for bits in (None, 512, 768, 1023)]
    assert measured == expected


def test_more_bits_find_more_and_512_cost_what_256_do() -> None:
    for name in ("wordllama l2_supercat", "all-MiniLM-L6-v2"):
        rows = [model for model in MEASURED["models"] if model["model"] == name and model["dimensions"] >= 256]
        for way in range(len(rows[0]["ways"])):
            found = [row["ways"][way]["recall"] for row in rows]
            assert found == sorted(found)
    bytes_of = {one["bits"]: one["bytes"] for one in MEASURED["price"]}
    assert bytes_of[256] == bytes_of[512] == bytes_of[1023] == bytes_of[1291] == bytes_of[1536] / 2


def test_the_projection_is_the_best_of_those_that_learn_nothing() -> None:
    ours, *others = TRIED["rows"]
    assert ours["projection"] == "`superbit-1`"
    unlearnt = [row for row in others if "learnt" not in row["projection"]]
    assert unlearnt
    for row in unlearnt:
        assert all(mine > its for mine, its in zip(ours["all"], row["all"], strict=True))


def test_a_rotation_that_is_learnt_is_a_rotation_and_brings_vectors_nearer_to_their_signs() -> None:
    rng = np.random.default_rng(3)
    vectors = (rng.normal(size=(300, 8)) * np.linspace(1, 3, 8)).astype(np.float32)
    learnt = projections.itq(vectors, 8, rng)
    np.testing.assert_allclose(learnt.T @ learnt, np.eye(8), atol=1e-5)
    rotated = vectors @ learnt
    assert np.abs(rotated).sum() > np.abs(vectors).sum()


def test_more_candidates_never_find_less() -> None:
    for model in MEASURED["models"]:
        for k in (3, 10):
            for kind in ("int8", "float32"):
                ways = [way for way in model["ways"] if way["k"] == k and way["vector_copy"] in (None, kind)]
                found = [way["recall"] for way in sorted(ways, key=lambda way: way["rescore"] or 1)]
                assert len(found) == 4
                assert found == sorted(found)


def test_recall_is_1_where_candidates_are_all_there_are_and_that_of_chance_for_noise() -> None:
    rng = np.random.default_rng(7)
    passages, queries = rng.normal(size=(20, 16)).astype(np.float32), rng.normal(size=(50, 16)).astype(np.float32)
    by_way = {(w["k"], w["rescore"], w["vector_copy"]): w["recall"] for w in recall(passages, queries)}
    assert by_way[10, 2, "float32"] == 1
    assert by_way[10, 2, "int8"] > 0.97
    same_signs = np.abs(passages)
    blind = {(w["k"], w["rescore"]): w["recall"] for w in recall(same_signs, queries) if w["vector_copy"] != "int8"}
    assert 0.3 < blind[10, None] < 0.7
    assert blind[10, 2] == 1


def test_the_corpus_is_thousands_of_passages_and_queries_that_are_none_of_them() -> None:
    corpus = python_corpus()
    assert len(corpus.passages) > 2000
    assert len(corpus.queries) > 1000
    assert not set(corpus.passages) & set(corpus.queries)
    assert len(set(corpus.passages)) == len(corpus.passages)
