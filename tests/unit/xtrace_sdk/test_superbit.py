"""`superbit-1` gives the same bits everywhere, those of docs/formats.md, and they estimate angles."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_sdk.x_vec.chunks.superbit import superbits

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "superbit.json").read_text(encoding="utf-8"))


def plain(vector: NDArray[np.float32], bits: int) -> list[int]:
    """The page's definition word by word, in Python's integers and with whole matrices."""
    width = 1
    while width < len(vector):
        width *= 2
    exact = [Fraction(float(x)) for x in vector]
    largest = max(map(abs, exact))
    scale = Fraction(1)
    while largest and largest * scale < 2**23:
        scale *= 2
    while largest * scale >= 2**24:
        scale /= 2
    whole = [round(x * scale) for x in exact] + [0] * (width - len(vector))
    out: list[int] = []
    for block in range(-(-bits // width)):
        seed = b"xtrace/superbit-1" + width.to_bytes(4, "big") + block.to_bytes(4, "big")
        drawn = hashlib.shake_256(seed).digest(-(-3 * width // 8))
        signs = [1 - 2 * (drawn[i // 8] >> (7 - i % 8) & 1) for i in range(3 * width)]
        turned = whole
        for turn in range(3):
            turned = [x * sign for x, sign in zip(turned, signs[turn * width :], strict=False)]
            turned = [sum(x * (-1) ** (i & j).bit_count() for j, x in enumerate(turned)) for i in range(width)]
        out += [int(x > 0) for x in turned]
    return out[:bits]


def known_input(dim: int) -> NDArray[np.float32]:
    """Elements that every float has exactly."""
    return np.array([((37 * i * i + 11 * i + 5) % 257 - 128) / 64 for i in range(dim)], dtype=np.float32)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['dim']}-{case['bits']}")
def test_known_answers(case: dict[str, object]) -> None:
    dim, bits = case["dim"], case["bits"]
    assert isinstance(dim, int)
    assert isinstance(bits, int)
    assert np.packbits(superbits(known_input(dim)[None], bits)[0]).tobytes().hex() == case["packed"]


def test_the_example_on_the_formats_page() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    elements = ", ".join(map(str, known_input(4).tolist())).replace("-", "−")
    bits = ", ".join(map(str, superbits(known_input(4)[None], 8)[0].tolist()))
    assert f"The vector {elements} gives the eight bits {bits}." in " ".join(page.split())


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 16, 33, 64])
def test_the_fast_way_gives_what_the_definition_gives(dim: int) -> None:
    rng = np.random.default_rng(dim)
    vectors = rng.normal(size=(6, dim)).astype(np.float32)
    vectors[1] *= np.float32(1e-42)  # some become subnormal numbers, some zeros
    vectors[2] = np.float32(3e38) * np.sign(vectors[2])
    vectors[3] *= rng.choice([1e-20, 1, 1e20], size=dim).astype(np.float32)
    vectors[4] = 0
    for bits in (1, dim, 2 * dim + 1):
        assert superbits(vectors, bits).tolist() == [plain(vector, bits) for vector in vectors]


def test_a_vector_has_the_same_bits_in_any_company_and_layout() -> None:
    vectors = np.random.default_rng(3).normal(size=(3000, 200)).astype(np.float32)  # more than one piece
    bits = superbits(vectors, 500)
    assert bits.shape == (3000, 500)
    assert bits.dtype == np.uint8
    for i in (0, 1023, 1024, 2999):
        assert np.array_equal(superbits(vectors[i : i + 1], 500)[0], bits[i])
    assert np.array_equal(superbits(np.asfortranarray(vectors), 500), bits)
    assert np.array_equal(superbits(vectors[::-1], 500), bits[::-1])
    assert superbits(vectors[:0], 500).shape == (0, 500)


def test_fewer_bits_are_the_first_ones_and_length_does_not_matter() -> None:
    vectors = np.random.default_rng(4).normal(size=(5, 48)).astype(np.float32)
    bits = superbits(vectors, 300)
    assert np.array_equal(superbits(vectors, 70), bits[:, :70])
    assert np.array_equal(superbits(vectors * np.float32(2**-30), 300), bits)


@pytest.mark.parametrize("dim", [16_384, 10_000])
def test_the_largest_vectors_do_not_overflow(dim: int) -> None:
    along = superbits(np.ones((1, dim), dtype=np.float32), 64)
    against = superbits(-np.ones((1, dim), dtype=np.float32), 64)
    assert (along + against == 1).all()


def test_more_bits_estimate_angles_better() -> None:
    rng = np.random.default_rng(5)
    first = rng.normal(size=(300, 64))
    second = first * np.linspace(0, 2, 300)[:, None] + rng.normal(size=(300, 64))
    cosines = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    errors = []
    for bits in (64, 256, 1024):
        differing = superbits(first.astype(np.float32), bits) != superbits(second.astype(np.float32), bits)
        errors.append(np.abs(differing.mean(axis=1) - np.arccos(cosines) / np.pi).mean())
    assert errors[0] > 1.4 * errors[1] > 1.4 * 1.4 * errors[2]
