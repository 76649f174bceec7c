"""Vectors as users have them become bits in one way, or are refused."""

from typing import Any

import numpy as np
import pytest

from xtrace_sdk.errors import InvalidVector
from xtrace_sdk.x_vec.chunks.superbit import superbits
from xtrace_sdk.x_vec.chunks.vectors import VectorForm, float_to_bits, resolve


def test_floats_are_taken_by_their_sign_and_zero_is_not_above_zero() -> None:
    assert float_to_bits([0.1, 0.0, -0.0, -3.0, 1e-30]).tolist() == [1, 0, 0, 0, 1]
    assert float_to_bits([[1.0, -1.0]]).shape == (1, 2)
    assert VectorForm(2).as_bits(np.array([0.5, -0.5], dtype=np.float16)).tolist() == [1, 0]


def test_bits_stay_what_they_are_in_every_type() -> None:
    for vector in ([1, 0, 1], (1, 0, 1), [True, False, True], np.array([1, 0, 1], dtype=np.int64), [1.0, 0.0, 1.0]):
        bits = VectorForm(3).as_bits(vector)
        assert bits.tolist() == [1, 0, 1]
        assert bits.dtype == np.uint8


def test_projected_floats_and_ready_bits_are_told_apart_by_their_type() -> None:
    form = VectorForm(embed_len=8, projected_dim=4)
    floats = [0.5, -0.25, 0.0, 1.0]
    bits = form.as_bits(floats)
    assert bits.tolist() == superbits(np.array([floats], dtype=np.float32), 8)[0].tolist()
    assert form.as_bits(bits).tolist() == bits.tolist()
    for wrong in ([0.5] * 8, [1] * 4, [0.5] * 3, [1] * 9, [1e300, 0.0, 0.0, 0.0], [[0.5] * 4]):
        with pytest.raises(InvalidVector):
            form.as_bits(wrong)
    with pytest.raises(InvalidVector, match="8 floats, expected 4 floats as the model gives them, or 8 bits"):
        form.as_bits([0.5] * 8)


def test_a_matrix_keeps_its_shape() -> None:
    assert float_to_bits(np.ones((3, 4))).tolist() == [[1] * 4] * 3


@pytest.mark.parametrize("bad", [[0, 2], [-1, 0], [np.inf, 0.0], [np.nan, 1.0], ["1", "0"], [None, 1], [1 + 2j, 0]])
def test_other_elements_are_refused(bad: list[object]) -> None:
    with pytest.raises(InvalidVector):
        VectorForm(2).as_bits(bad)


async def test_only_awaitables_are_awaited() -> None:
    async def vector() -> list[int]:
        return [1]

    assert await resolve(vector()) == [1]
    assert await resolve([2]) == [2]


@pytest.mark.parametrize(
    "vectors",
    [
        np.eye(3, dtype=np.uint8),
        np.eye(3, dtype=bool),
        np.array([[0.5, -1, 0], [2, -3, 4]], dtype=np.float32),
        [np.array([1, 0, 1]), np.array([0, 0, 1])],
    ],
)
def test_vectors_that_are_checked_together_are_those_that_are_checked_one_by_one(vectors: Any) -> None:
    form = VectorForm(3)
    together, one_by_one = form.all_elements(vectors), [form.elements(vector) for vector in vectors]
    assert together is not None
    assert np.array_equal(together, one_by_one)
    assert {one.dtype for one in one_by_one} == {together.dtype}


@pytest.mark.parametrize(
    "vectors",
    [
        [np.array([1, 0, 1]), np.array([0.5, 0, 1])],
        [np.array([1, 0, 1]), np.array([0, 1])],
        [np.array([1, 0, 1]), [0, 1, 1]],
        [np.array([1, 0, 2])],
        [np.array([1, float("nan"), 2])],
        [np.array(["1", "0", "1"])],
        np.zeros((2, 4)),
        np.zeros((2, 1, 3), dtype=np.uint8),
        [],
    ],
)
def test_vectors_of_several_types_and_those_that_are_not_valid_are_not_checked_together(vectors: Any) -> None:
    assert VectorForm(3).all_elements(vectors) is None
