"""What a server may answer instead of the sum of a chunk and the query, and that each of it is noticed.

The server here knows what a real one knows: n, the stored ciphertexts and nonces, and the query's ciphertexts.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from support import reference_paillier as reference
from support.crypto_support import (
    SCHEMES,
    Client,
    Row,
    answers,
    client,
    generated,
    hamming,
    little,
    nonces_of,
    number,
    random_vectors,
    reference_key,
    smallest_sides,
    with_sides,
)
from xtrace_core.arithmetic import Rows, as_rows
from xtrace_sdk.errors import InvalidArgument, InvalidRows
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch
from xtrace_sdk.x_vec.schemes.interface import Ciphertext
from xtrace_sdk.x_vec.schemes.paillier.query import EncryptedQuery
from xtrace_sdk.x_vec.schemes.paillier.scheme import PrimeSide

COUNT = 5
VICTIM = 2

SHAPES = {
    "one ciphertext, one prime": 100,
    "one ciphertext, both primes": 200,
    "two ciphertexts, one prime": 256,
    "three ciphertexts, both primes": 600,
    "base 3": 300,
}


@dataclass(frozen=True)
class Search:
    """One honest search over a few chunks."""

    owner: Client
    batch: EncryptedIndexBatch
    query: EncryptedQuery
    rows: list[Row]
    nonces: list[bytes | None]
    distances: list[int]

    @property
    def n(self) -> int:
        return self.owner.n

    @property
    def products(self) -> list[int]:
        """The honest answer for the victim."""
        return [number(ciphertext) for ciphertext in self.rows[VICTIM]]

    @property
    def queries(self) -> list[int]:
        return [number(ciphertext) for ciphertext in self.query.ciphertexts]


@cache
def search(scheme: str, shape: str) -> Search:
    embed_len = SHAPES[shape]
    if shape == "two ciphertexts, one prime":
        model = generated(scheme, 256)
        owner = with_sides(model, model._sides, embed_len, "base4")
    else:
        owner = client(scheme, 256, embed_len)
    assert owner._one_prime == ("one prime" in shape)
    vectors = random_vectors(COUNT, embed_len)
    batch, query = owner.encrypt_vec_batch(vectors), owner.encrypt_query(vectors[0])
    return Search(owner, batch, query, answers(owner, batch, query), nonces_of(batch), hamming(vectors, vectors[0]))


Answer = tuple[Sequence[Ciphertext], bytes | None]
Tampering = Callable[[Search], Answer]
TAMPERINGS: dict[str, Tampering] = {}


def tampering(function: Tampering) -> Tampering:
    TAMPERINGS[function.__name__] = function
    return function


def replaced(s: Search, position: int, value: int) -> Answer:
    """The honest answer with another integer in one place."""
    row = s.products
    row[position] = value
    return row, s.nonces[VICTIM]


# Values


@tampering
def negated(s: Search) -> Answer:
    return replaced(s, 0, s.n**2 - s.products[0])


@tampering
def last_one_negated(s: Search) -> Answer:
    return replaced(s, -1, s.n**2 - s.products[-1])


@tampering
def negative(s: Search) -> Answer:
    return replaced(s, 0, -s.products[0])


@tampering
def zero(s: Search) -> Answer:
    return replaced(s, 0, 0)


@tampering
def no_bytes(s: Search) -> Answer:
    return [b"", *s.rows[VICTIM][1:]], s.nonces[VICTIM]


@tampering
def n_squared(s: Search) -> Answer:
    return replaced(s, 0, s.n**2)


@tampering
def not_canonical(s: Search) -> Answer:
    return replaced(s, 0, s.products[0] + s.n**2)


@tampering
def not_canonical_in_the_last_place(s: Search) -> Answer:
    return replaced(s, -1, s.products[-1] + s.n**2)


@tampering
def the_widest_number(s: Search) -> Answer:
    return [b"\xff" * len(little(s.n**2))] * len(s.rows[VICTIM]), s.nonces[VICTIM]


@tampering
def oversized(s: Search) -> Answer:
    return [b"\x01" * 100_000, *s.rows[VICTIM][1:]], s.nonces[VICTIM]


@tampering
def oversized_integer(s: Search) -> Answer:
    return replaced(s, 0, 1 << 100_000)


@tampering
def padded_beyond_the_width(s: Search) -> Answer:
    padded = s.rows[VICTIM][0].ljust(len(little(s.n**2)) + 1, b"\0")
    return [padded, *s.rows[VICTIM][1:]], s.nonces[VICTIM]


@tampering
def one_bit_flipped(s: Search) -> Answer:
    return replaced(s, 0, s.products[0] ^ 1 << 77)


@tampering
def one(s: Search) -> Answer:
    return [1] * len(s.products), s.nonces[VICTIM]


@tampering
def inverse(s: Search) -> Answer:
    return replaced(s, 0, pow(s.products[0], -1, s.n**2))


@tampering
def square(s: Search) -> Answer:
    return replaced(s, 0, pow(s.products[0], 2, s.n**2))


@tampering
def multiple_of_the_first_prime(s: Search) -> Answer:
    return replaced(s, 0, s.products[0] * s.owner._sides[0].prime % s.n**2)


@tampering
def times_fresh_noise(s: Search) -> Answer:
    r = random.Random(1).randrange(s.n)
    return replaced(s, 0, s.products[0] * pow(r, s.n, s.n**2) % s.n**2)


# Forms


@tampering
def too_few_ciphertexts(s: Search) -> Answer:
    return s.products[:-1], s.nonces[VICTIM]


@tampering
def too_many_ciphertexts(s: Search) -> Answer:
    return [*s.products, s.products[-1]], s.nonces[VICTIM]


@tampering
def no_ciphertexts(s: Search) -> Answer:
    return [], s.nonces[VICTIM]


# Nonces


@tampering
def nonce_stripped(s: Search) -> Answer:
    return s.products, None


@tampering
def nonce_empty(s: Search) -> Answer:
    return s.products, b""


@tampering
def nonce_short(s: Search) -> Answer:
    return s.products, s.batch[VICTIM].nonce[:-1]


@tampering
def nonce_long(s: Search) -> Answer:
    return s.products, s.batch[VICTIM].nonce + b"\0"


@tampering
def nonce_of_zeros(s: Search) -> Answer:
    return s.products, bytes(30)


@tampering
def nonce_of_another_chunk(s: Search) -> Answer:
    return s.products, s.nonces[VICTIM + 1]


@tampering
def nonce_with_a_flipped_bit(s: Search) -> Answer:
    nonce = s.batch[VICTIM].nonce
    return s.products, nonce[:-1] + bytes([nonce[-1] ^ 1])


# Rows of other origin


@tampering
def row_of_another_chunk(s: Search) -> Answer:
    return s.rows[VICTIM + 1], s.nonces[VICTIM]


@tampering
def the_chunk_without_the_query(s: Search) -> Answer:
    return list(s.batch[VICTIM]), s.nonces[VICTIM]


@tampering
def the_query_without_the_chunk(s: Search) -> Answer:
    return s.queries, s.nonces[VICTIM]


@tampering
def the_query_twice(s: Search) -> Answer:
    return [c * q % s.n**2 for c, q in zip(s.products, s.queries, strict=True)], s.nonces[VICTIM]


@tampering
def the_sum_with_an_older_query(s: Search) -> Answer:
    older = s.owner.encrypt_query([1] * s.owner.embed_len)
    return answers(s.owner, [s.batch[VICTIM]], older)[0], s.nonces[VICTIM]


def own_row(s: Search) -> list[int]:
    """query · (1+n)^m: the sum of the query and a text of the server's choice, without knowing any key."""
    message = reference.number_of([1, 0] * 20, 4)
    return [q * (1 + message * s.n) % s.n**2 for q in s.queries]


@tampering
def row_of_the_servers_own_making(s: Search) -> Answer:
    return own_row(s), s.nonces[VICTIM]


@tampering
def row_of_the_servers_own_making_with_a_new_nonce(s: Search) -> Answer:
    return own_row(s), random.Random(2).randbytes(30)


@tampering
def row_of_the_servers_own_making_without_a_nonce(s: Search) -> Answer:
    return own_row(s), None


@tampering
def row_of_the_servers_own_making_without_the_query(s: Search) -> Answer:
    return [1 + 5 * s.n] * len(s.queries), s.nonces[VICTIM]


def both(s: Search, answer: Answer) -> tuple[list[int], list[bool], list[bool]]:
    """The positions that the public call reports, and what each of the two passes says of all rows."""
    rows: list[Sequence[Ciphertext]] = [*s.rows]
    nonces = [*s.nonces]
    rows[VICTIM], nonces[VICTIM] = answer
    reported: list[int] = []
    try:
        s.owner.decode_hamming_client_batch(rows, nonces, s.query)
    except InvalidRows as error:
        reported = error.positions
    first = s.owner.read_distances(rows, nonces, s.query)[1]
    return reported, first.tolist(), s.owner.confirm_distances(rows, nonces, s.query)[1].tolist()


ALL_BUT_VICTIM = [i != VICTIM for i in range(COUNT)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_honest_answers_are_accepted(scheme: str, shape: str) -> None:
    s = search(scheme, shape)
    assert s.owner.decode_hamming_client_batch(s.rows, s.nonces, s.query).tolist() == s.distances
    assert both(s, (s.products, s.nonces[VICTIM])) == ([], [True] * COUNT, [True] * COUNT)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TAMPERINGS)
def test_tampering_is_noticed_in_the_one_row_that_has_it(scheme: str, shape: str, kind: str) -> None:
    s = search(scheme, shape)
    assert both(s, TAMPERINGS[kind](s)) == ([VICTIM], ALL_BUT_VICTIM, ALL_BUT_VICTIM)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "two" in shape or "three" in shape])
def test_ciphertexts_exchanged_within_a_row_are_noticed(scheme: str, shape: str) -> None:
    s = search(scheme, shape)
    products = s.products
    for i in range(len(products)):
        for j in range(len(products)):
            if i != j:
                exchanged, repeated = [*products], [*products]
                exchanged[i], exchanged[j] = products[j], products[i]
                repeated[i] = products[j]
                for row in (exchanged, repeated):
                    assert both(s, (row, s.nonces[VICTIM])) == ([VICTIM], ALL_BUT_VICTIM, ALL_BUT_VICTIM)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ciphertexts_of_two_chunks_exchanged_are_noticed(scheme: str) -> None:
    s = search(scheme, "three ciphertexts, both primes")
    mixed = [s.rows[VICTIM + 1][0], *s.rows[VICTIM][1:]]
    assert both(s, (mixed, s.nonces[VICTIM])) == ([VICTIM], ALL_BUT_VICTIM, ALL_BUT_VICTIM)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_row_of_another_context_is_noticed(scheme: str) -> None:
    s = search(scheme, "one ciphertext, one prime")
    other = type(s.owner).generate(100, 256, insecure_allow_weak_parameters=True)
    index = other.encrypt_vec_one([1] * 100)
    row = answers(other, [index], other.encrypt_query([1] * 100))[0]
    assert both(s, (row, index.nonce)) == ([VICTIM], ALL_BUT_VICTIM, ALL_BUT_VICTIM)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_reports_exactly_its_bad_rows(scheme: str, shape: str) -> None:
    s = search(scheme, shape)
    rng = random.Random(3)
    kinds = sorted(TAMPERINGS)
    rows: list[Sequence[Ciphertext]] = []
    nonces: list[bytes | None] = []
    bad = []
    for position in range(60):
        row, nonce = s.products, s.nonces[VICTIM]
        if rng.random() < 0.5:
            row, nonce = TAMPERINGS[rng.choice(kinds)](s)  # type: ignore[assignment]
            bad.append(position)
        rows.append(row)
        nonces.append(nonce)
    with pytest.raises(InvalidRows) as caught:
        s.owner.decode_hamming_client_batch(rows, nonces, s.query)
    assert caught.value.positions == bad
    distances, valid = s.owner.read_distances(rows, nonces, s.query)
    assert np.flatnonzero(~valid).tolist() == bad
    assert set(distances[valid].tolist()) == {s.distances[VICTIM]}


class Recorded:
    """A side of a key that notes how many rows it was given to read."""

    def __init__(self, side: PrimeSide) -> None:
        self.side, self.seen = side, list[int]()
        self.prime, self.square, self.order_bits = side.prime, side.square, side.order_bits
        self.noise_from, self.no_noise = side.noise_from, side.no_noise
        self.encrypt = side.encrypt

    def read(self, products: Rows, noise: Rows, other: int) -> tuple[Rows, NDArray[np.bool_]]:
        self.seen.append(len(products))
        return self.side.read(products, noise, other)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_bad_rows_take_the_same_way_as_good_ones(scheme: str, shape: str) -> None:
    s = search(scheme, shape)
    sides = tuple(Recorded(side) for side in s.owner._sides)
    watched = with_sides(s.owner, sides, s.owner.embed_len, s.owner._encoding.base)
    rows: list[Sequence[Ciphertext]] = [*s.rows]
    for bad in ([], [0] * len(s.products), s.products[:-1], [1 << 100_000] * len(s.products)):
        rows[0] = bad
        watched.read_distances(rows, s.nonces, s.query)
    each_search = [COUNT] * len(s.products) * 4
    assert sides[0].seen == each_search
    assert sides[1].seen == ([] if s.owner._one_prime else each_search)


def test_rows_and_nonces_of_different_number_are_the_callers_mistake() -> None:
    s = search("paillier", "one ciphertext, one prime")
    with pytest.raises(InvalidArgument, match="5 rows but 4 nonces"):
        s.owner.decode_hamming_client_batch(s.rows, s.nonces[:-1], s.query)


def test_one_bad_answer_is_an_error_for_one_row_as_for_many() -> None:
    s = search("paillier_lookup", "one ciphertext, one prime")
    with pytest.raises(InvalidRows) as caught:
        s.owner.decode_hamming_client_one(s.rows[0], s.nonces[1], s.query)
    assert caught.value.positions == [0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("missing", [None, b"", bytes(16), bytes(29), bytes(31)])
def test_a_row_without_a_well_formed_nonce_is_invalid_whatever_noise_it_has(scheme: str, missing: bytes | None) -> None:
    # Even one whose noise is that of the zeros that stand in for a missing nonce.
    owner = client(scheme, 256, 6)
    batch = owner._encrypt_with_nonces(random_vectors(1, 6), np.zeros((1, 30), dtype=np.uint8))
    assert owner._sums(batch.rows, batch.nonces, None, one_prime=False)[1].all()
    assert not owner._sums(batch.rows, [missing], None, one_prime=False)[1].any()
    assert not owner.decrypt_vec_batch(batch.rows, [missing])[1].any()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("prime", [0, 1])
def test_other_noise_modulo_one_prime_alone_is_noticed(scheme: str, shape: str, prime: int) -> None:
    # Nobody without the factors can make such a row; a fault can. The message is the honest one modulo both primes.
    s = search(scheme, shape)
    key = reference_key(s.owner)
    changed, other = (key.p, key.q) if prime == 0 else (key.q, key.p)
    noise = reference.crt(pow(3, changed, changed**2), changed**2, 1, other**2)
    answer = replaced(s, 0, s.products[0] * noise % s.n**2)
    sums = [key.decrypt(int.from_bytes(c, "little") if isinstance(c, bytes) else c) for c in answer[0]]
    assert sums == sums_of(s)
    reported, first, confirmed = both(s, answer)
    assert confirmed == ALL_BUT_VICTIM
    seen_at_once = prime == 0 or not s.owner._one_prime
    assert reported == [VICTIM]
    assert first == (ALL_BUT_VICTIM if seen_at_once else [True] * COUNT)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("prime", [0, 1])
def test_what_remains_without_the_noise_must_be_1_in_every_byte(scheme: str, prime: int) -> None:
    side = client(scheme, 256, 6)._sides[prime]
    none = as_rows([side.no_noise()], -(-side.order_bits // 8))
    for message in (0, 1, side.prime - 1):
        honest = 1 + message * side.prime
        assert side.read(as_rows([honest], 128), none, side.no_noise())[1].all()
        wrong = [honest + (1 << bit) for bit in range(255)]
        assert not side.read(as_rows(wrong, 128), np.repeat(none, 255, axis=0), side.no_noise())[1].any()


# Multiplying an honest product by (1+n)^t adds t to the sum: what of it can be noticed, and what p does to it


def shifted(s: Search, t: int, position: int = 0) -> Answer:
    return replaced(s, position, s.products[position] * (1 + t * s.n) % s.n**2)


def sums_of(s: Search) -> list[int]:
    key = reference_key(s.owner)
    return [key.decrypt(product) for product in s.products]


def around(p: int) -> list[int]:
    rng = random.Random(p)
    close = [p + d for d in range(-70, 71)]
    by_slot = [p + sign * 4**j for j in range(0, 120, 7) for sign in (1, -1)]
    wide = [p + sign * rng.randrange(1 << bits) for bits in range(8, 256, 8) for sign in (1, -1)]
    return close + by_slot + wide


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "base 3"])
@pytest.mark.parametrize("prime", [0, 1])
def test_adding_about_p_is_always_noticed_before_anything_is_fetched(scheme: str, shape: str, prime: int) -> None:
    s = search(scheme, shape)
    p = s.owner._sides[0].prime
    ts = around(s.owner._sides[prime].prime)
    rows = [shifted(s, t)[0] for t in ts]
    nonces = [s.nonces[VICTIM]] * len(ts)
    assert not s.owner.confirm_distances(rows, nonces, s.query)[1].any()
    with pytest.raises(InvalidRows) as raised:
        s.owner.decode_hamming_client_batch(rows, nonces, s.query)
    assert raised.value.positions == list(range(len(ts)))
    # Modulo p alone t = p adds nothing, and t = p + 4^j no more than t = 4^j does: only to find such a t the server
    # would have to know p already. That is why the nearest are read under both primes before they are fetched.
    first_pass = s.owner.read_distances(rows, nonces, s.query)[1].tolist()
    assert first_pass == [s.owner._one_prime and t == p for t in ts]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_adding_about_p_is_noticed_at_the_widest_one_prime_sum_under_the_smallest_primes(scheme: str) -> None:
    sides = smallest_sides(scheme, 256)
    owner = with_sides(generated(scheme, 256), sides, 128)
    assert owner._one_prime
    n, p = owner.n, sides[0].prime
    for vector, query_vector in ((0, 0), (0, 1), (1, 1)):
        index, query = owner.encrypt_vec_one([vector] * 128), owner.encrypt_query([query_vector] * 128)
        product = number(answers(owner, [index], query)[0][0])
        rows = [[product * (1 + t * n) % n**2] for t in around(p)]
        assert not owner.confirm_distances(rows, [index.nonce] * len(rows), query)[1].any()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_whatever_is_added_to_a_base_3_sum_is_noticed(scheme: str) -> None:
    # Base 3 has no digit that cannot be, so the vector's own authentication alone notices a shifted sum.
    s = search(scheme, "base 3")
    total, width = sums_of(s)[0], s.owner.embed_len
    room = 3**width - total
    edges = [1, room - 1, room, room + 1, s.n - total - 1, s.n - total, s.n - 1]
    ts = [*around(s.owner._sides[0].prime), *around(s.owner._sides[1].prime), *edges]
    rows = [shifted(s, t)[0] for t in ts]
    nonces = [s.nonces[VICTIM]] * len(ts)
    assert not s.owner.read_distances(rows, nonces, s.query)[1].any()
    assert not s.owner.confirm_distances(rows, nonces, s.query)[1].any()


MOVES = (-2, -1, 1, 2)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_position_moved_by_one_or_two_is_noticed_whatever_is_stored_and_asked(scheme: str, shape: str) -> None:
    # A check that took the low bit of a pair XOR the query's would accept two more where both bits are 0, and so tell
    # them apart: every move must fail, for every stored and every queried bit.
    embed_len = SHAPES[shape]
    s = search(scheme, shape)
    owner, base = s.owner, 3 if s.owner._encoding.base == "base3" else 4
    positions = np.arange(embed_len)
    vector, asked = (positions % 2).astype(np.uint8), (positions // 2 % 2).astype(np.uint8)
    index, query = owner.encrypt_vec_one(vector), owner.encrypt_query(asked)
    products = [number(ciphertext) for ciphertext in answers(owner, [index], query)[0]]
    rows, seen = [], set[tuple[int, int, int]]()
    edges = np.cumsum([0, *owner._encoding.widths])
    for t, (start, end) in enumerate(pairwise(edges)):
        # All of a short vector's positions, and both ends and a stretch of a long one's.
        chosen = range(start, end) if embed_len <= 100 else [*range(start, start + 9), *range(end - 9, end)]
        for position in chosen:
            for move in MOVES:
                row = [*products]
                factor = 1 + move * base ** int(end - 1 - position) * owner.n
                row[t] = products[t] * factor % owner.n**2
                rows.append(row)
                seen.add((int(vector[position]), int(asked[position]), move))
    assert seen == {(x, q, move) for x in (0, 1) for q in (0, 1) for move in MOVES}
    nonces = [index.nonce] * len(rows)
    assert not owner.read_distances(rows, nonces, query)[1].any()
    assert not owner.confirm_distances(rows, nonces, query)[1].any()
    assert owner.decode_hamming_client_one(products, index.nonce, query) == np.count_nonzero(vector != asked)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("shape", SHAPES)
def test_moves_that_leave_a_sum_of_two_vectors_are_noticed(scheme: str, shape: str) -> None:
    """What a server that knows a vector can do: the row of one vector becomes that of another, noise and all."""
    s = search(scheme, shape)
    base = 3 if s.owner._encoding.base == "base3" else 4
    known = random_vectors(COUNT, s.owner.embed_len)[VICTIM]
    other = 1 - known
    row = [*s.products]
    edges = np.cumsum([0, *s.owner._encoding.widths])
    for t, (start, end) in enumerate(pairwise(edges)):
        change = reference.number_of(other[start:end].tolist(), base) - reference.number_of(
            known[start:end].tolist(), base
        )
        row[t] = row[t] * (1 + change * s.n) % s.n**2
    key = reference_key(s.owner)
    sums = [key.decrypt(product) for product in row]
    assert all(
        reference.is_sum_of_two(total, width, s.owner._encoding.base)
        for total, width in zip(sums, s.owner._encoding.widths, strict=True)
    )
    assert both(s, (row, s.nonces[VICTIM])) == ([VICTIM], ALL_BUT_VICTIM, ALL_BUT_VICTIM)
