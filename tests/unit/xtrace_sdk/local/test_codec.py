"""`rot-4`: what a code says of a vector, and that it is the same everywhere."""

import hashlib
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_sdk.x_vec.chunks.vector_copies import cosine_similarities, vector_copies
from xtrace_sdk.x_vec.local.codec import Codes, cosines, encode, query, width_of


def vectors(count: int, dim: int, seed: int = 1) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    # Dimensions of different size, as models have them: without the rotation most levels would go unused.
    return (random.standard_normal((count, dim)) * random.random(dim) ** 2).astype(np.float32)


def copies(count: int, dim: int) -> NDArray[np.int8]:
    return vector_copies(vectors(count, dim), "int8").astype(np.int8)


@pytest.mark.parametrize("dim", [1, 2, 3, 255, 256, 384, 768])
def test_estimates_are_close_to_cosines(dim: int) -> None:
    stored, asked = copies(500, dim), vectors(1, dim, seed=2)[0]
    exact = cosine_similarities(asked, stored)
    estimated = cosines(encode(stored), query(asked))
    assert np.abs(exact - estimated).max() < (0.06 if dim > 200 else 0.5)
    assert encode(stored).levels.shape == (500, width_of(dim) // 2)


def test_estimates_are_unbiased() -> None:
    stored, asked = copies(4000, 256), vectors(1, 256, seed=3)[0]
    errors = cosines(encode(stored), query(asked)) - cosine_similarities(asked, stored)
    assert abs(float(errors.mean())) < 0.001


def test_the_twenty_best_estimates_have_the_ten_nearest() -> None:
    stored = copies(5000, 256)
    codes, found = encode(stored), 0
    for asked in vectors(20, 256, seed=4):
        best = np.argsort(-cosines(codes, query(asked)))[:20]
        found += len(set(np.argsort(-cosine_similarities(asked, stored))[:10].tolist()) & set(best.tolist()))
    assert found >= 198


def plain_code(vector: list[int]) -> bytes:
    """By the definition, a coordinate at a time, in exact integers as far as they go."""
    width = width_of(len(vector))
    drawn = hashlib.shake_256(b"xtrace/rot-4" + width.to_bytes(4, "big")).digest(-(-2 * width // 8))
    signs = [1 - 2 * (drawn[i // 8] >> 7 - i % 8 & 1) for i in range(2 * width)]
    rotated = vector + [0] * (width - len(vector))
    for start in (0, width):
        signed = [sign * x for sign, x in zip(signs[start : start + width], rotated, strict=True)]
        rotated = [sum(x * (-1) ** (i & j).bit_count() for j, x in enumerate(signed)) for i in range(width)]
    length = math.sqrt(sum(x * x for x in vector) * float(width))
    levels = [min(max(math.floor(x / length / 0.335 + 8), 0), 15) for x in rotated]
    return bytes(low | high << 4 for low, high in zip(levels[::2], levels[1::2], strict=True))


@pytest.mark.parametrize("dim", [1, 2, 3, 8, 48, 64])
def test_codes_are_what_the_definition_says(dim: int) -> None:
    stored = copies(5, dim)
    stored[:, 0] = 127
    assert encode(stored).levels.tobytes() == b"".join(plain_code(list(map(int, row))) for row in stored)


def test_codes_are_known_answers() -> None:
    # Integers are added, and the rest is one rounded operation after another: every machine gives these bytes.
    stored = (np.arange(5 * 48, dtype=np.int64) * 7919 % 255 - 127).astype(np.int8).reshape(5, 48)
    digest = hashlib.sha256(encode(stored).levels.tobytes()).hexdigest()
    assert digest == "ba8c1460e462a58c0ad37d2be5df43ce77d42991605f53de59a98bdfe838df06"


def test_many_rows_have_the_codes_that_each_has_alone() -> None:
    stored = copies(3000, 200)
    together = encode(stored)
    for row in (0, 1023, 1024, 2999):
        alone = encode(stored[row : row + 1])
        assert (together.levels[row] == alone.levels[0]).all()
        assert together.factors[row] == pytest.approx(alone.factors[0])


def test_only_the_direction_counts() -> None:
    stored = np.array([[1, -2, 3, 4], [10, -20, 30, 40]], np.int8)
    codes = encode(stored)
    assert (codes.levels[0] == codes.levels[1]).all()


def test_a_vector_of_zeros_is_like_nothing() -> None:
    codes = encode(np.zeros((1, 8), np.int8))
    assert codes.factors.tolist() == [0]
    assert cosines(codes, query(np.ones(8, np.float32))).tolist() == [0]
    assert cosines(encode(np.ones((1, 8), np.int8)), query(np.zeros(8, np.float32))).tolist() == [0]


def test_a_vector_beyond_32_bits_is_encoded() -> None:
    stored = np.full((1, 5000), 127, np.int8)
    estimated = cosines(encode(stored), query(np.ones(5000, np.float32)))
    assert estimated[0] == pytest.approx(1, abs=0.02)


def test_no_vectors() -> None:
    codes = encode(np.empty((0, 16), np.int8))
    assert len(cosines(codes, query(np.ones(16, np.float32)))) == 0


def test_codes_of_rows() -> None:
    codes = encode(copies(10, 32))
    some = Codes(codes.levels[2:5], codes.factors[2:5])
    asked = query(vectors(1, 32, seed=6)[0])
    assert cosines(some, asked).tolist() == cosines(codes, asked)[2:5].tolist()
