"""Blocks of the scheme `lattice`: their distances, their parts as specified, and what is refused on both sides."""

import hashlib
import json
import mmap
import pickle
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_core.lattice.header import BlockHeader
from xtrace_core.lattice.interface import QueryValues, UnreadBlock
from xtrace_core.lattice.layout import pack, pack_values, packed_bytes, unpack, unpack_values
from xtrace_core.lattice.numbers import POWERS, ROOTS, residues
from xtrace_core.lattice.parameters import (
    BASE,
    DEGREE,
    FOLD,
    PRIMES,
    QUERY_SCALE,
    RANK,
    ROW_SCALE,
    body_bytes,
    hint_bytes,
    slab_words,
    slabs,
    words,
)
from xtrace_core.lattice.reading import masks_of, readings
from xtrace_core.lattice.ring import ring
from xtrace_core.schemes.interface import InvalidCiphertext
from xtrace_core.schemes.lattice_blocks import LatticeBlockEvaluation
from xtrace_sdk.errors import FaultDetected, InvalidAnswer, InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer, CheckedBlock, SealedBlock
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice import blocks as blocks_module
from xtrace_sdk.x_vec.schemes.lattice import sealing
from xtrace_sdk.x_vec.schemes.lattice.block_queries import LatticeBlockQueries, encrypted
from xtrace_sdk.x_vec.schemes.lattice.blocks import LatticeBlocks
from xtrace_sdk.x_vec.schemes.lattice.keys import LatticeKeys
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "lattice_blocks.json").read_text())
LENGTHS = (1, 3, 8, 128, 384, 512, 768, 1000, 1536, 4096)
KB = "kb-of-invoices"
DIM = 40


def vectors(count: int, embed_len: int = DIM, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, (count, embed_len), dtype=np.uint8)


def blocks_of(embed_len: int = DIM) -> LatticeBlocks:
    return LatticeClient.create(embed_len, SchemeParameters()).blocks


def checked(owner: LatticeBlocks, block: SealedBlock) -> CheckedBlock:
    return owner.checked(block.header, block.hints, KB)


def answered(evaluation: LatticeBlockEvaluation, owner: LatticeBlocks, block: SealedBlock, sent: list[bytes]) -> Any:
    """What an honest service answers."""
    evaluation.check_block(block.header, block.hints, block.body)
    for query in sent:
        evaluation.check_query(query)
    one = checked(owner, block)
    values = evaluation.evaluate([block.body], sent)[0, :, :, : one.count]
    return of(one, np.arange(one.count), values)


def of(block: CheckedBlock, slots: Any, values: NDArray[Any]) -> BlockAnswer:
    """The answer for one block with these values `(queries, slabs, slots)`."""
    return BlockAnswer(block, np.array(slots, dtype=np.int64), pack_values(values))


def values_of(answer: BlockAnswer, queries: int = 1) -> NDArray[Any]:
    count = len(answer.slots)
    size = packed_bytes(count, 12)
    parts = [unpack_values(answer.values[i : i + size], count) for i in range(0, len(answer.values), size)]
    return np.array(parts).reshape(queries, -1, count)


def expected(stored: NDArray[np.uint8], queries: NDArray[np.uint8]) -> list[list[int]]:
    return [(stored != query).sum(axis=1).tolist() for query in queries]


# What is right


@pytest.mark.parametrize("embed_len", LENGTHS)
def test_distances_are_those_of_the_vectors(embed_len: int) -> None:
    owner, stored, evaluation = blocks_of(embed_len), vectors(9, embed_len), LatticeBlockEvaluation(embed_len)
    stored[1] = 1 - stored[0]  # the largest distance
    block, queries = owner.seal(stored, KB), owner.queries(stored[:2])
    sizes = evaluation.sizes
    assert [len(block.header), len(block.hints), len(block.body)] == [sizes.header, sizes.hints, sizes.body]
    assert ([len(query) for query in queries.sent], len(queries)) == ([sizes.query] * 2, 2)
    distances = queries.read([answered(evaluation, owner, block, queries.sent)])
    assert distances.tolist() == expected(stored, stored[:2])
    assert owner.matches(checked(owner, block), stored)


@pytest.mark.parametrize("count", [1, 1024])
def test_blocks_may_have_one_vector_or_be_full(count: int) -> None:
    owner, stored, evaluation = blocks_of(8), vectors(count, 8), LatticeBlockEvaluation(8)
    block, queries = owner.seal(stored.tolist(), KB), owner.queries(stored[:1].tolist())
    distances = queries.read([answered(evaluation, owner, block, queries.sent)])
    assert distances.tolist() == expected(stored, stored[:1])


def test_the_values_of_some_slots_are_enough() -> None:
    owner, stored = blocks_of(), vectors(200)
    block, queries = owner.seal(stored, KB), owner.queries(stored[:1])
    whole = answered(LatticeBlockEvaluation(DIM), owner, block, queries.sent)
    for slots in ([], [0], [3, 77, 199]):
        part = of(whole.block, slots, values_of(whole)[:, :, slots])
        distances = _again(queries).read([part])
        assert distances.tolist() == [(stored[slots] != stored[0]).sum(axis=1).tolist()]


def _again(queries: Any) -> Any:
    """The same queries once more, which the client itself does not allow."""
    twin = LatticeBlockQueries(DIM, [])
    twin.sent, twin._unread = queries.sent, [list(queries._unread[0])]
    return twin


def test_bodies_may_be_views_of_mapped_files(tmp_path: Path) -> None:
    owner, evaluation = blocks_of(), LatticeBlockEvaluation(DIM)
    block, queries = owner.seal(vectors(5), KB), owner.queries(vectors(2))
    path = tmp_path / "body"
    path.write_bytes(block.body)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        evaluation.check_block(block.header, block.hints, view)
        values = evaluation.evaluate([view, block.body], queries.sent)
        view.release()
    assert values.shape == (2, 2, 1, 1024)
    assert np.array_equal(values[0], values[1])


def test_a_cluster_gets_the_evaluation_as_bytes() -> None:
    evaluation: LatticeBlockEvaluation = pickle.loads(pickle.dumps(LatticeBlockEvaluation(8)))  # noqa: S301 - made here
    assert evaluation.sizes == LatticeBlockEvaluation(8).sizes


def test_sizes_are_as_specified() -> None:
    assert [body_bytes(d) >> 10 for d in (384, 512, 1024, 4096)] == [768, 1024, 2048, 8192]
    assert [hint_bytes(d) / 1024 for d in (384, 512, 1024, 4096)] == [7.5, 7.5, 15, 60]
    for d in range(1, 4097):
        each = slab_words(d)
        assert (len(each), sum(each)) == (slabs(d), words(d))
        assert FOLD * each[0] <= 512
        assert set(each[:-1]) <= {each[0]}
        assert 0 < each[-1] <= each[0]


# What is specified


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: f"{case['embed_len']} positions")
def test_blocks_queries_and_answers_are_as_specified(case: dict[str, Any]) -> None:
    embed_len = case["embed_len"]
    owner = LatticeBlocks(LatticeKeys(bytes.fromhex(case["root"]), embed_len))
    nonce = owner._keys.block_nonce(bits(*case["vectors"]), bytes.fromhex(case["random"]))
    block = owner._sealed_with(nonce, bits(*case["vectors"]), case["kb_id"])
    assert (block.header.hex(), sha256(block.hints)) == (case["header"], case["hints_sha256"])
    query = bits(case["query"])
    seed = owner._keys.query_seed(query, bytes.fromhex(case["query_random"]))
    sent, secret = encrypted(owner._keys, seed, query)
    assert sha256(sent) == case["query_sha256"]
    values = LatticeBlockEvaluation(embed_len).evaluate([block.body], [sent])[0]
    assert [sha256(pack_values(slab)) for slab in values[0]] == case["values_sha256"]
    count = len(case["vectors"])
    answer = of(owner.checked(block.header, block.hints, case["kb_id"]), np.arange(count), values[:, :, :count])
    distances = LatticeBlockQueries(embed_len, [(sent, secret)]).read([answer])
    assert distances.tolist() == [case["distances"]]


def bits(*vectors: str) -> NDArray[np.uint8]:
    return np.array([[int(digit) for digit in vector] for vector in vectors], dtype=np.uint8)


# The mathematics


def test_the_modulus_is_as_specified() -> None:
    assert PRIMES[0] * PRIMES[1] == ROW_SCALE * QUERY_SCALE * BASE**4 + 1467953
    assert KNOWN["psi"] == ROOTS
    for prime, root in zip(PRIMES, ROOTS, strict=True):
        assert prime < 1 << 30
        assert pow(root, DEGREE, prime) == prime - 1


def test_the_transform_evaluates_at_odd_powers_and_its_inverse_interpolates() -> None:
    coefficients = np.random.default_rng(1).integers(-(1 << 40), 1 << 40, (3, DEGREE))
    elements = residues(coefficients)
    values = ring.forward(elements)
    for t, (prime, root) in enumerate(zip(PRIMES, ROOTS, strict=True)):
        for i in (0, 1, 77, 1023):
            point = pow(root, 2 * int(f"{i:010b}"[::-1], 2) + 1, prime)
            assert POWERS[t, i] == pow(root, int(f"{i:010b}"[::-1], 2), prime)
            assert values[1, t, i] == sum(int(v) * pow(point, k, prime) for k, v in enumerate(coefficients[1])) % prime
    assert np.array_equal(ring.inverse(values), elements)
    assert np.array_equal(ring.forward(elements[:, :1]), values[:, :1])


@pytest.mark.parametrize("bits", [12, 20])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 1024])
def test_values_are_packed_as_one_string_of_bits(bits: int, count: int) -> None:
    values = np.random.default_rng(count).integers(0, 1 << bits, count, dtype=np.uint64)
    data = pack(values, bits)
    assert int.from_bytes(data, "little") == sum(int(value) << bits * i for i, value in enumerate(values))
    assert len(data) == packed_bytes(count, bits)
    assert np.array_equal(unpack(data, count, bits), values)
    for wrong in (data + b"\0", data[:-1] if data else b"x"):
        with pytest.raises(ValueError, match="values, expected"):
            unpack(wrong, count, bits)


def test_bits_after_the_last_value_are_refused() -> None:
    assert unpack_values(pack_values(np.array([4095], dtype=np.uint16)), 1).tolist() == [4095]
    several = np.random.default_rng(3).integers(0, 4096, (2, 3, 7), dtype=np.uint16)
    each = [pack(part, 12) for query in several for part in query]
    assert pack_values(several) == b"".join(each)
    assert pack_values(several[:, :, :6]) == b"".join(pack(part, 12) for query in several[:, :, :6] for part in query)
    with pytest.raises(ValueError, match="after the last value"):
        unpack_values(b"\0\x10", 1)


def test_noise_is_as_large_as_calculated() -> None:
    embed_len, groups = 512, 128
    owner, stored, evaluation = blocks_of(embed_len), vectors(1024, embed_len), LatticeBlockEvaluation(embed_len)
    block, queries = owner.seal(stored, KB), owner.queries(vectors(6, embed_len, seed=2))
    (secrets,), answer = queries._unread, answered(evaluation, owner, block, queries.sent)
    unread = UnreadBlock(answer.block.secret, answer.block.hints, answer.slots, answer.values)
    asked = QueryValues(np.stack([one.secret for one in secrets]), np.stack([one.kept for one in secrets]))
    noise = readings(embed_len, unread, masks_of(ring, asked, [unread])[0])[1] / 2**34
    of_errors = 8 * DEGREE * groups / (2 * QUERY_SCALE) ** 2 + 8 * groups / ROW_SCALE**2
    of_digits = 3 * groups / (4 * BASE**2)  # the lower ones of a product
    of_rounding = RANK * DEGREE / 18 * (BASE / 2**20) ** 2 + (BASE / 2**12) ** 2 / 12
    assert np.std(noise) == pytest.approx(np.sqrt(of_errors + of_digits + of_rounding), rel=0.1)


# Nonces and queries


def test_a_repeating_generator_gives_equal_blocks_only_to_equal_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(size))
    owner = LatticeBlocks(LatticeKeys(bytes(range(32)), 8))
    sealed = [owner.seal(rows, KB) for rows in ([[0] * 8], [[0] * 7 + [1]], [[0] * 8], [[0] * 8] * 2)]
    assert sealed[0] == sealed[2]
    assert len({BlockHeader.parsed(block.header).nonce for block in sealed}) == 3
    one, other, same = owner.queries([[0] * 8]), owner.queries([[0] * 7 + [1]]), owner.queries([[0] * 8])
    assert one.sent == same.sent
    assert one.sent != other.sent


def test_equal_vectors_and_equal_queries_are_encrypted_differently() -> None:
    owner = blocks_of(8)
    assert len({owner.seal([[0] * 8], KB).body for _ in range(5)}) == 5
    assert len({*owner.queries([[0] * 8] * 3).sent, *owner.queries([[0] * 8] * 3).sent}) == 6


def test_queries_are_read_once() -> None:
    owner, stored = blocks_of(), vectors(4)
    block, queries = owner.seal(stored, KB), owner.queries(stored[:1])
    answer = answered(LatticeBlockEvaluation(DIM), owner, block, queries.sent)
    queries.read([answer])
    with pytest.raises(RuntimeError, match="encrypt new ones"):
        queries.read([answer])


def test_an_answer_that_was_refused_is_not_read_again() -> None:
    owner, stored = blocks_of(), vectors(4)
    block, queries = owner.seal(stored, KB), owner.queries(stored[:1])
    answer = answered(LatticeBlockEvaluation(DIM), owner, block, queries.sent)
    with pytest.raises(InvalidAnswer, match="answered twice for one block"):
        queries.read([answer, answer])
    with pytest.raises(RuntimeError):
        queries.read([answer])


# What the client refuses


class TestHostileService:
    owner = blocks_of()
    evaluation = LatticeBlockEvaluation(DIM)
    stored = vectors(300)
    block = owner.seal(stored, KB)

    def answer(self) -> tuple[Any, Any]:
        queries = self.owner.queries(self.stored[:1])
        return queries, answered(self.evaluation, self.owner, self.block, queries.sent)

    def test_every_changed_byte_of_header_or_hints_is_noticed(self) -> None:
        for part in ("header", "hints"):
            data = bytearray(getattr(self.block, part))
            for place in range(0, len(data), 1 if part == "header" else 97):
                data[place] ^= 1
                with pytest.raises(InvalidAnswer, match="the server sent a block that"):
                    checked(self.owner, replace(self.block, **{part: bytes(data)}))
                data[place] ^= 1
        for cut in (self.block.header[:-1], self.block.header + b"\0", b""):
            with pytest.raises(InvalidAnswer, match=f"has {len(cut)} bytes, expected 112"):
                self.owner.checked(cut, self.block.hints, KB)

    def test_a_block_of_another_knowledge_base_context_or_block_is_refused(self) -> None:
        other = self.owner.seal(self.stored, KB)
        for owner, hints, kb_id in (
            (self.owner, self.block.hints, "kb-of-memos"),
            (blocks_of(), self.block.hints, KB),
            (self.owner, other.hints, KB),
        ):
            with pytest.raises(InvalidAnswer, match="did not seal for this knowledge base"):
                owner.checked(self.block.header, hints, kb_id)

    @pytest.mark.parametrize("change", ["body", "zeros", "reversed", "half a gap", "another block"])
    def test_values_of_something_else_are_refused(self, change: str) -> None:
        queries, answer = self.answer()
        values = values_of(answer)
        if change == "body":
            body = bytearray(self.block.body)
            body[0] ^= 1
            values = self.evaluation.evaluate([bytes(body)], queries.sent)[0, :, :, :300]
        elif change == "zeros":
            values = np.zeros_like(values)
        elif change == "reversed":
            values = values[:, :, ::-1]
        elif change == "half a gap":  # some slots: for each, noise decides whether it is noticed
            values = (values + 4) & 4095
        else:
            values = self.evaluation.evaluate([self.owner.seal(self.stored, KB).body], queries.sent)[0, :, :, :300]
        with pytest.raises(InvalidAnswer, match="not those of its vectors"):
            queries.read([of(answer.block, answer.slots, values)])

    def test_a_distance_beyond_the_positions_is_refused(self) -> None:
        queries, answer = self.answer()
        shift = round((DIM + 1) * 4096 / 513)
        with pytest.raises(InvalidAnswer, match="not those of its vectors"):
            queries.read([of(answer.block, answer.slots, (values_of(answer) + np.uint16(shift)) & 4095)])

    @pytest.mark.parametrize("slots", [[300], [-1], [1, 1], [2, 1]])
    def test_slots_that_the_block_does_not_have_are_refused(self, slots: list[int]) -> None:
        queries, answer = self.answer()
        wrong = of(answer.block, slots, values_of(answer)[:, :, : len(slots)])
        with pytest.raises(InvalidAnswer, match=r"slots that a block of 300 vectors|slots are not asc"):
            queries.read([wrong])

    def test_values_of_another_length_are_refused(self) -> None:
        for length in (449, 451, 900, 0):
            queries, answer = self.answer()
            with pytest.raises(InvalidAnswer, match=f"got {length} bytes for 300 values, expected 450"):
                queries.read([replace(answer, values=(bytes(answer.values) * 2).ljust(451, b"x")[:length])])

    def test_other_vectors_do_not_match_the_block(self) -> None:
        block = checked(self.owner, self.block)
        assert self.owner.matches(block, self.stored)
        assert not self.owner.matches(block, self.stored[:-1])
        assert not self.owner.matches(block, self.stored[::-1])


def test_vectors_that_do_not_fit_are_refused() -> None:
    owner = blocks_of(8)
    for wrong in ([[0] * 7], [[2] * 8]):
        with pytest.raises(InvalidVector):
            owner.seal(wrong, KB)
        with pytest.raises(InvalidVector):
            owner.queries(wrong)
    for count in (0, 1025):
        with pytest.raises(InvalidArgument, match=f"got {count} vectors for a block, expected 1 to 1024"):
            owner.seal(np.zeros((count, 8), np.uint8), KB)


@pytest.mark.parametrize("part", ["body", "hints"])
def test_a_block_that_was_computed_incorrectly_is_discarded(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*arguments: Any) -> tuple[bytes, bytes]:
        hints, body = honest(*arguments)
        changed = {"hints": hints, "body": body}
        changed[part] = changed[part][:4] + bytes([changed[part][4] ^ 0x80]) + changed[part][5:]
        return changed["hints"], changed["body"]

    honest = sealing.sealed
    owner = blocks_of()
    monkeypatch.setattr(blocks_module, "sealed", faulty)
    with pytest.raises(FaultDetected, match="does not show the distances"):
        owner.seal(vectors(1000), KB)


# What the service refuses


def test_the_service_refuses_what_is_not_a_block_of_the_context() -> None:
    owner, evaluation = blocks_of(), LatticeBlockEvaluation(DIM)
    good, header = owner.seal(vectors(3), KB), BlockHeader.parsed
    assert evaluation.summary(good.header).count == 3
    too_large = PRIMES[0].to_bytes(4, "little") + good.body[4:]
    high = good.body[:4] + PRIMES[1].to_bytes(4, "little") + good.body[8:]
    longer = blocks_of(DIM + 1).seal(vectors(3, DIM + 1), KB)
    for block, sentence in (
        (replace(good, header=b""), "header has 0 bytes, expected 112"),
        (replace(good, header=b"XLB2" + good.header[4:]), "header is not valid"),
        (replace(good, header=replace(header(good.header), count=0).packed()), "header is not valid"),
        (replace(good, header=replace(header(good.header), count=1025).packed()), "header is not valid"),
        (replace(good, header=longer.header), "positions, expected 40"),
        (replace(good, hints=good.hints[1:]), "hints have 7679 bytes, expected 7680"),
        (replace(good, body=good.body[8:]), "body has 81912 bytes, expected 81920"),
        (replace(good, body=too_large), "body contains a residue that is not below its prime"),
        (replace(good, body=high), "body contains a residue that is not below its prime"),
        (replace(good, body=good.body[8:] + good.body[:8]), "does not match the SHA-256"),
    ):
        with pytest.raises(InvalidCiphertext, match=sentence):
            evaluation.check_block(block.header, block.hints, block.body)


def test_the_service_refuses_other_queries() -> None:
    evaluation = LatticeBlockEvaluation(DIM)
    (query,) = blocks_of().queries(vectors(1)).sent
    evaluation.check_query(query)
    for wrong, sentence in (
        (b"", "the query has 0 bytes, expected 81920"),
        (query + b"\0", "the query has 81921 bytes"),
        (query[:-4] + b"\xff" * 4, "the query contains a residue"),
    ):
        with pytest.raises(InvalidCiphertext, match=sentence):
            evaluation.check_query(wrong)
    with pytest.raises(InvalidCiphertext, match="the query has 1 bytes"):
        evaluation.evaluate([query], [b"x"])
    with pytest.raises(InvalidCiphertext, match="body has 1 bytes"):
        evaluation.evaluate([b"x"], [query])
