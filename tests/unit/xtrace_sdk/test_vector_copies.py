"""Copies of vectors keep their direction; only floats have one."""

from typing import Any

import numpy as np
import pytest

from xtrace_sdk.errors import InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.chunks.vector_copies import as_floats, copy_kind, cosine_similarities, vector_copies

VECTORS = np.random.default_rng(5).normal(size=(20, 64)).astype(np.float32)


def test_float32_copies_are_the_vectors() -> None:
    copies = vector_copies(VECTORS, "float32")
    assert copies.dtype == np.float32
    assert (copies == VECTORS).all()


def test_int8_copies_reach_127_and_are_off_by_half_a_step_at_most() -> None:
    copies = vector_copies(VECTORS, "int8")
    assert copies.dtype == np.int8
    assert (np.abs(copies.astype(int)).max(axis=1) == 127).all()
    largest = np.abs(VECTORS).max(axis=1, keepdims=True)
    assert (np.abs(copies * largest / 127 - VECTORS) <= largest / 254 * 1.001).all()


@pytest.mark.parametrize("factor", [1e-44, 1e-30, 1e30, 1e38])
def test_int8_copies_do_not_depend_on_a_vectors_length(factor: float) -> None:
    vectors = np.array([[1.0, -1.0, 0.0, 0.5]]) * factor
    (copy,) = vector_copies(vectors.astype(np.float32), "int8")
    assert copy[:3].tolist() == [127, -127, 0]


def test_a_zero_vector_has_a_zero_copy_and_no_similarity() -> None:
    zero = np.zeros((1, 4), dtype=np.float32)
    assert vector_copies(zero, "int8").tolist() == [[0] * 4]
    assert cosine_similarities(np.ones(4, dtype=np.float32), zero).tolist() == [0]
    assert cosine_similarities(zero[0], np.ones((1, 4), dtype=np.int8)).tolist() == [0]


def test_no_vectors_have_no_copies() -> None:
    assert vector_copies(np.empty((0, 4), dtype=np.float32), "int8").shape == (0, 4)


def test_similarities_are_cosines() -> None:
    query = VECTORS[3]
    exact = [float(np.dot(query, v) / np.sqrt(np.dot(query, query) * np.dot(v, v))) for v in VECTORS]
    assert cosine_similarities(query, VECTORS) == pytest.approx(exact, abs=1e-6)
    assert cosine_similarities(query, vector_copies(VECTORS, "int8")) == pytest.approx(exact, abs=0.01)
    assert cosine_similarities(query, -VECTORS).min() >= -1


def test_floats_of_every_width_are_taken() -> None:
    for vector in ([0.5, -1.0], np.array([0.5, -1.0]), np.array([0.5, -1.0], dtype=np.float16)):
        floats = as_floats(vector, 2)
        assert floats.dtype == np.float32
        assert floats.tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ([0, 1], "int64, expected floats"),
        ([True, False], "bool, expected floats"),
        (["a", "b"], "expected floats"),
        ([0.1], "shape .1,., expected one vector of 2 floats"),
        ([[0.1, 0.2]], "shape .1, 2., expected"),
        ([[0.1], [0.1, 0.2]], "expected one vector"),
        ([np.nan, 0.1], "finite"),
        ([1e300, 0.1], "finite"),
    ],
)
def test_other_vectors_are_refused(bad: Any, complaint: str) -> None:
    with pytest.raises(InvalidVector, match=complaint):
        as_floats(bad, 2)


@pytest.mark.parametrize("bad", ["int4", "", True, 8, b"int8"])
def test_other_kinds_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match="expected None, 'int8' or 'float32'"):
        copy_kind(bad)
