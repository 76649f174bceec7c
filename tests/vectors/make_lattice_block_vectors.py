"""Makes lattice_blocks.json: blocks, queries, answers and distances of the scheme `lattice`, by docs/formats.md alone.

Shares no code with the product, and knows no fast transform: values are sums over all powers of a root, products of
polynomials are products of large integers modulo Q. `python make_lattice_block_vectors.py` writes the file; it takes a
minute.
"""

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

N = 1024
Q0, Q1 = 1067261953, 1061244929
Q = Q0 * Q1
T, D1, D2 = 513, 1034, 15816
ROOT = bytes(range(32))
CASES = ((1, 1), (8, 3), (516, 2))
"""Positions and vectors."""
KB_ID = "4f0c6a52-knowledge-base"


def prf(key: bytes, label: str, *parts: bytes) -> bytes:
    message = b"".join(struct.pack("<I", len(part)) + part for part in (label.encode(), *parts))
    return hmac.new(key, message, hashlib.sha256).digest()


def stream(key: bytes, size: int) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


def words_of(key: bytes, count: int) -> list[int]:
    return list(struct.unpack(f"<{count}I", stream(key, 4 * count)))


def uniform(key: bytes, count: int, prime: int) -> list[int]:
    low = [word & 0x3FFFFFFF for word in words_of(key, 2 * count)]
    return [word for word in low if word < prime][:count]


def ternary(key: bytes, count: int) -> list[int]:
    return [byte % 3 - 1 for byte in stream(key, 2 * count) if byte < 255][:count]


def binomial(key: bytes, count: int) -> list[int]:
    return [(word & 0xFFFF).bit_count() - (word >> 16).bit_count() for word in words_of(key, count)]


# Polynomials are lists of N integers, modulo Q if nothing else is said.


def psi(prime: int) -> int:
    roots = (pow(g, (prime - 1) // 2048, prime) for g in range(2, 100))
    return next(root for root in roots if pow(root, N, prime) == prime - 1)


def powers(prime: int) -> Any:
    """Row i: all powers of the point of value i."""
    root = psi(prime)
    points = [pow(root, 2 * int(f"{i:010b}"[::-1], 2) + 1, prime) for i in range(N)]
    table = np.ones((N, N), np.uint64)
    for k in range(1, N):
        table[:, k] = table[:, k - 1] * np.array(points, np.uint64) % np.uint64(prime)
    return table


POWERS = {prime: powers(prime) for prime in (Q0, Q1)}


def values(polynomial: list[int], prime: int) -> list[int]:
    coefficients = np.array([c % prime for c in polynomial], np.uint64)
    sums = (POWERS[prime] * coefficients % np.uint64(prime)).sum(axis=1)
    return [int(value) % prime for value in sums]


def coefficients(of_values: list[int], prime: int) -> list[int]:
    """Reverses `values`: coefficient k is the mean of value times point^-k, and point^-k is -point^(N - k)."""
    table, data = POWERS[prime], np.array(of_values, np.uint64)[:, None]
    sums = [int(value) for value in (table * data % np.uint64(prime)).sum(axis=0)]
    turned = [sums[0], *(-sums[N - k] for k in range(1, N))]
    return [value * pow(N, -1, prime) % prime for value in turned]


def joined(low: list[int], high: list[int]) -> list[int]:
    """The polynomial modulo Q with these coefficients modulo both primes."""
    one, other = Q1 * pow(Q1, -1, Q0), Q0 * pow(Q0, -1, Q1)
    return [(a * one + b * other) % Q for a, b in zip(low, high, strict=True)]


def product(a: list[int], b: list[int], modulus: int = Q) -> list[int]:
    width = 20  # bytes of a coefficient of a product of integers
    whole = number(a, modulus, width) * number(b, modulus, width)
    data = whole.to_bytes(2 * N * width, "little")
    parts = [int.from_bytes(data[i : i + width], "little") for i in range(0, len(data), width)]
    return [(parts[i] - parts[i + N]) % modulus for i in range(N)]


def number(polynomial: list[int], modulus: int, width: int) -> int:
    return int.from_bytes(b"".join((c % modulus).to_bytes(width, "little") for c in polynomial), "little")


def total(polynomials: list[list[int]], modulus: int = Q) -> list[int]:
    return [sum(column) % modulus for column in zip(*polynomials, strict=True)]


def fraction(c: int) -> int:
    """f of a coefficient, modulo 2^64."""
    parts = [(c * pow(Q1, -1, Q0) % Q0) * (2**64 // Q0), (c * pow(Q0, -1, Q1) % Q1) * (2**64 // Q1)]
    return sum(parts) % 2**64


def rounded(c: int, bits: int) -> int:
    return ((fraction(c) + (1 << (63 - bits))) >> (64 - bits)) % (1 << bits)


def bit_string(numbers: list[int], width: int) -> bytes:
    whole = sum(value << width * i for i, value in enumerate(numbers))
    return whole.to_bytes(-(-len(numbers) * width // 8), "little")


class Context:
    def __init__(self, root: bytes, d: int) -> None:
        self.d, self.root = d, root
        self.key = prf(root, "lattice-1", prf(root, "public")[:16], struct.pack("<H", d))
        groups, self.slabs = -(-d // 4), -(-d // 512)
        each = -(-groups // self.slabs)
        self.ranges = [range(i * each, min((i + 1) * each, groups)) for i in range(self.slabs)]
        mask = stream(prf(self.key, "mask"), 512)
        self.mask = [mask[i // 8] >> i % 8 & 1 for i in range(4096)]
        self.matrices = {label: [self.matrix(label, s) for s in range(self.slabs)] for label in ("A", "a")}

    def matrix(self, label: str, s: int) -> list[list[list[int]]]:
        """K rows of 3 polynomials."""
        rows = len(self.ranges[s])
        drawn = [uniform(prf(self.key, label, bytes([s, t])), rows * 3 * N, q) for t, q in enumerate((Q0, Q1))]
        parts = [
            [coefficients(data[i : i + N], q) for i in range(0, len(data), N)]
            for data, q in zip(drawn, (Q0, Q1), strict=True)
        ]
        whole = [joined(low, high) for low, high in zip(*parts, strict=True)]
        return [whole[3 * j : 3 * j + 3] for j in range(rows)]

    def signs(self, vector: str) -> list[int]:
        bits = [int(digit) for digit in vector.ljust(4 * -(-self.d // 4), "0")]
        return [2 * (bit ^ mask) - 1 for bit, mask in zip(bits, self.mask, strict=False)]

    def noisy(self, label: str, seed: bytes, s: int, vectors: list[str], weights: list[int]) -> list[list[int]]:
        """Errors and messages of a slab."""
        rows, signs = self.ranges[s], [self.signs(vector) for vector in vectors]
        errors = binomial(prf(self.key, label, seed, bytes([s])), len(rows) * N)
        polynomials = [errors[i : i + N] for i in range(0, len(errors), N)]
        for polynomial, group in zip(polynomials, rows, strict=True):
            for i, sign in enumerate(signs):
                polynomial[i] += sum(w * sign[4 * group + place] for place, w in enumerate(weights))
        return polynomials

    def rows(self, matrix: list[list[list[int]]], secret: list[list[int]], noisy: list[list[int]]) -> list[list[int]]:
        return [
            total([*(product(a, s) for a, s in zip(row, secret, strict=True)), e])
            for row, e in zip(matrix, noisy, strict=True)
        ]

    def secret(self, label: str, seed: bytes) -> list[list[int]]:
        drawn = ternary(prf(self.key, label, seed), 3 * N)
        return [drawn[i : i + N] for i in range(0, 3 * N, N)]


def packed(vector: str) -> bytes:
    return sum(1 << i for i, digit in enumerate(vector) if digit == "1").to_bytes(-(-len(vector) // 8), "little")


def tiles(rows: list[list[int]]) -> bytes:
    low, high = ([values(row, q) for row in rows] for q in (Q0, Q1))
    return b"".join(
        struct.pack("<Q", low[j][i] | high[j][i] << 32)
        for first in range(0, N, 16)
        for j in range(len(rows))
        for i in range(first, first + 16)
    )


def columns(matrix: list[list[list[int]]], rows: list[list[int]]) -> list[list[int]]:
    return [total([product(row[c], other) for row, other in zip(matrix, rows, strict=True)]) for c in range(3)]


def read(value: int, u: int, positions: int) -> int:
    f = (value * 2**22 - u * 2**34 // Q0) % 2**34
    shifted = f * T + (positions + 1) * 2**33
    assert abs(shifted % 2**34 - 2**33) < 0.44 * 2**34
    return (shifted >> 34) % T


def case(d: int, count: int) -> dict[str, Any]:
    root = prf(ROOT, "blocks", d.to_bytes(2, "little"))
    context = Context(root, d)
    digits = "".join(f"{byte:08b}" for byte in hashlib.shake_256(root).digest(512 * (count + 1)))
    vectors = [digits[4096 * i : 4096 * i + d] for i in range(count)]
    asked = digits[4096 * count : 4096 * count + d]
    block_random, query_random = prf(root, "block random"), prf(root, "query random")
    nonce = prf(context.key, "nonce", block_random, hashlib.sha256(b"".join(map(packed, vectors))).digest())
    seed = prf(context.key, "query", query_random, packed(asked))
    own, theirs = context.secret("s", nonce), context.secret("qs", seed)
    body, hints, sent, answers, distances = b"", b"", b"", [], [0] * count
    for s, groups in enumerate(context.ranges):
        big, small = context.matrices["A"][s], context.matrices["a"][s]
        rows = context.rows(big, own, context.noisy("e", nonce, s, vectors, [D1 // 2 * T**i for i in range(4)]))
        noisy = context.noisy("qe", seed, s, [asked], [-D2 * T ** (3 - i) for i in range(4)])
        query = context.rows(small, theirs, noisy)
        body += tiles(rows)
        sent += tiles(query)
        hint = [rounded(c, 20) for column in columns(small, rows) for c in column]
        hints += bit_string(hint, 20)
        z = [[((fraction(c) >> 32) * Q0 + 2**31) >> 32 for c in column] for column in columns(big, noisy)]
        h = [[(c * Q0 + 2**19) >> 20 for c in hint[i : i + N]] for i in range(0, 3 * N, N)]
        parts = [*map(product, own, z, [Q0] * 3), *map(product, h, theirs, [Q0] * 3)]
        u = total(parts, Q0)
        answer = [rounded(c, 12) for c in total([product(a, b) for a, b in zip(rows, query, strict=True)])]
        answers.append(answer)
        for i in range(count):
            distances[i] += read(answer[i], u[i], 4 * len(groups))
    assert distances == [sum(a != b for a, b in zip(vector, asked, strict=True)) for vector in vectors]
    head = struct.pack("<4sHBBHHI", b"XLB1", d, context.slabs, 10, count, 0, -(-d // 4))
    head += nonce + hashlib.sha256(body).digest()
    return {
        "root": root.hex(),
        "embed_len": d,
        "kb_id": KB_ID,
        "random": block_random.hex(),
        "vectors": vectors,
        "header": (head + prf(context.key, "block", KB_ID.encode(), head, hints)).hex(),
        "hints_sha256": hashlib.sha256(hints).hexdigest(),
        "query": asked,
        "query_random": query_random.hex(),
        "query_sha256": hashlib.sha256(sent).hexdigest(),
        "values_sha256": [hashlib.sha256(bit_string(answer, 12)).hexdigest() for answer in answers],
        "distances": distances,
    }


def main() -> None:
    document = {"psi": [psi(Q0), psi(Q1)], "cases": [case(d, count) for d, count in CASES]}
    path = Path(__file__).with_name("lattice_blocks.json")
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
