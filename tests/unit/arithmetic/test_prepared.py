"""Prepared factors: the right products, within the budget however many there are, from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from xtrace_core.arithmetic import arithmetic, row_width
from xtrace_core.schemes import paillier
from xtrace_core.schemes.paillier import FEW_ROWS, PaillierEvaluation
from xtrace_core.schemes.prepared import PreparedFactors

MODULUS = (2**1024 - 105) ** 2
WIDTH = row_width(MODULUS)


def rows(count: int) -> np.ndarray:
    dice = np.random.default_rng(count)
    found = dice.integers(0, 256, (count, WIDTH), dtype=np.uint8)
    found[:, -1] = 0
    return found


def test_however_many_factors_come_they_stay_within_the_budget() -> None:
    budget = 2**20
    factors = PreparedFactors(budget)
    sample = rows(50)
    for factor in range(3, 203):
        made = factors.multiplier(factor, MODULUS)
        assert factors.nbytes <= budget
        if factor % 50 == 0:
            assert np.array_equal(made(sample), arithmetic.multiply(sample, factor, MODULUS))
    assert factors.multiplier(202, MODULUS) is factors.multiplier(202, MODULUS)


def test_one_that_is_larger_than_the_budget_is_still_used() -> None:
    factors = PreparedFactors(1)
    sample = rows(50)
    assert np.array_equal(factors.multiplier(7, MODULUS)(sample), arithmetic.multiply(sample, 7, MODULUS))


def test_threads_share_them() -> None:
    factors, sample = PreparedFactors(2**18), rows(40)

    def products(factor: int) -> bool:
        return np.array_equal(factors.multiplier(factor, MODULUS)(sample), arithmetic.multiply(sample, factor, MODULUS))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(products, [3 + i % 20 for i in range(200)]))


@pytest.mark.parametrize("count", [1, FEW_ROWS, FEW_ROWS + 1])
def test_few_rows_prepare_nothing_and_have_the_same_products(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    factors = PreparedFactors()
    monkeypatch.setattr(paillier, "prepared_factors", factors)
    evaluation = PaillierEvaluation(2**1024 - 105)
    sample = rows(count)
    query = [(12345).to_bytes(2, "little")]
    assert np.array_equal(evaluation.evaluate(sample, [query]), arithmetic.multiply(sample, 12345, MODULUS))
    assert (factors.nbytes == 0) == (count <= FEW_ROWS)
