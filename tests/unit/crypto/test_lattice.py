"""The scheme `lattice`: its keys, nonces and records as specified, and what is refused on both sides."""

import json
import pickle
import secrets
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_core.schemes.interface import InvalidCiphertext, InvalidPublicKey
from xtrace_core.schemes.lattice import LatticeEvaluation, lattice_evaluation, record_bytes
from xtrace_core.schemes.registry import SchemeRegistry
from xtrace_sdk.errors import InvalidAnswer, InvalidArgument, InvalidVector
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.keys import LatticeKeys, prf, record_keys
from xtrace_sdk.x_vec.schemes.lattice.records import Records, pack
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

KNOWN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "lattice.json").read_text())
LENGTHS = (1, 3, 8, 127, 128, 129, 384, 512, 1000, 4096)
PK = {"parameters": "lattice-1", "embed_len": 512, "id": "0f" * 16}


def client(embed_len: int) -> LatticeClient:
    return LatticeClient.create(embed_len, SchemeParameters())


def vectors(count: int, embed_len: int, seed: int = 1) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 2, (count, embed_len), dtype=np.uint8)


def bits(digits: str) -> NDArray[np.uint8]:
    return np.array([[int(digit) for digit in digits]], dtype=np.uint8)


def row(hexadecimal: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(hexadecimal), dtype=np.uint8)[None]


# What is specified


def test_derivation_is_as_specified() -> None:
    assert prf(bytes(32), "test", b"a", b"").hex() == KNOWN["prf"]
    labels = [("a", [b"b", b"c"]), ("a", [b"bc"]), ("ab", [b"c"]), ("a", [b"b", b"c", b""]), ("", [b"a", b"b", b"c"])]
    assert len({prf(bytes(32), label, *parts) for label, parts in labels}) == len(labels)


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: f"{len(case['vector'])} positions")
def test_keys_nonces_and_records_are_as_specified(case: dict[str, Any]) -> None:
    root, embed_len, packed = bytes.fromhex(case["root"]), len(case["vector"]), pack(bits(case["vector"]))
    owner = LatticeClient.load({"embed_len": embed_len}, {"root": case["root"]})
    assert json.dumps(owner.public_key(), sort_keys=True, separators=(",", ":")) == case["pk"]
    assert (owner.secrets(), owner.config()) == ({"root": case["root"]}, {"embed_len": embed_len})
    keys = LatticeKeys(root, embed_len)
    assert keys.hedge.secret().hex() == case["hedging_key"]
    assert [key.hex() for key in keys.record_keys()] == case["record_keys"]
    nonces = keys._nonces_from(row(case["random"]), packed)
    assert nonces.tobytes().hex() == case["nonce"]
    assert owner._records.seal(packed, nonces).tobytes().hex() == case["record"]
    opened, valid = owner.decrypt_vec_batch([[bytes.fromhex(case["record"])]], [bytes.fromhex(case["nonce"])])
    assert valid.all()
    assert np.array_equal(opened, bits(case["vector"]))


@pytest.mark.parametrize("case", KNOWN["design"], ids=lambda case: f"{len(case['vector'])} positions")
def test_records_are_those_of_the_design(case: dict[str, str]) -> None:
    context_id, embed_len = bytes.fromhex(case["id"]), len(case["vector"])
    records = Records(record_keys(bytes(range(32)), context_id, embed_len), context_id, embed_len)
    assert records.seal(pack(bits(case["vector"])), row(case["nonce"])).tobytes().hex() == case["record"]


@pytest.mark.parametrize("embed_len", LENGTHS)
def test_distances_are_those_of_the_vectors(embed_len: int) -> None:
    owner, stored = client(embed_len), vectors(50, embed_len)
    stored[1] = 1 - stored[0]
    batch, queries = owner.encrypt_vec_batch(stored), owner.encrypt_queries(stored[:3])
    assert batch.rows.shape == (50, 1, record_bytes(embed_len))
    assert (queries.sent, len(queries)) == ([[], [], []], 3)
    expected = [(stored != query).sum(axis=1).tolist() for query in stored[:3]]
    distances, valid = queries.read(batch.rows, batch.nonces)
    assert distances.tolist() == expected
    assert valid.all()
    for number in range(3):
        confirmed, valid = queries.confirm(batch.rows, [one.tobytes() for one in batch.nonces], number)
        assert confirmed.tolist() == expected[number]
        assert valid.all()
    opened, valid = owner.decrypt_vec_batch([one.ciphertexts() for one in batch], [one.nonce for one in batch])
    assert valid.all()
    assert np.array_equal(opened, stored)
    assert owner.encrypt_vec_one(stored[0].tolist()).nonce != batch[0].nonce


def test_a_repeating_generator_gives_equal_nonces_only_to_equal_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(size))
    owner = LatticeClient(LatticeKeys(bytes(range(32)), 16))
    batch = owner.encrypt_vec_batch([[0] * 16, [0] * 15 + [1], [0] * 16])
    assert batch[0] == batch[2]
    assert batch[0].nonce != batch[1].nonce
    assert batch.rows[0].tobytes()[16:] != batch.rows[1].tobytes()[16:]


def test_equal_vectors_have_different_records() -> None:
    batch = client(16).encrypt_vec_batch([[0] * 16] * 50)
    assert len({one.nonce for one in batch}) == len({one.tobytes() for one in batch.rows}) == 50


# What the client refuses


class TestTampering:
    owner = client(40)
    stored = vectors(3, 40)
    batch = owner.encrypt_vec_batch(stored)

    def valid(self, records: Any, nonces: Any) -> list[bool]:
        queries = self.owner.encrypt_queries(self.stored[:1])
        read, confirmed = queries.read(records, nonces)[1], queries.confirm(records, nonces, 0)[1]
        opened: list[bool] = self.owner.decrypt_vec_batch(records, nonces)[1].tolist()
        assert read.tolist() == confirmed.tolist() == opened
        return opened

    def test_every_changed_bit_of_a_record_or_nonce_is_noticed(self) -> None:
        for part in ("record", "nonce"):
            size = 8 * (record_bytes(40) if part == "record" else 16)
            records, nonces = self.batch.rows[:1].repeat(size, axis=0), self.batch.nonces[:1].repeat(size, axis=0)
            changed = records[:, 0] if part == "record" else nonces
            for bit in range(size):
                changed[bit, bit // 8] ^= 1 << bit % 8
            assert not any(self.valid(records, nonces))

    def test_a_record_of_another_chunk_is_refused(self) -> None:
        assert self.valid(self.batch.rows[[1, 1, 2]], self.batch.nonces) == [False, True, True]

    def test_a_record_of_another_context_or_of_another_length_of_vectors_is_refused(self) -> None:
        other = client(40).encrypt_vec_batch(self.stored)
        assert self.valid(other.rows, other.nonces) == [False] * 3
        longer = LatticeClient(LatticeKeys(self.owner._keys.root, 41))
        same_width = longer.encrypt_vec_batch(np.pad(self.stored, ((0, 0), (0, 1))))
        assert same_width.rows.shape == self.batch.rows.shape
        assert self.valid(same_width.rows, same_width.nonces) == [False] * 3

    @pytest.mark.parametrize("width", [0, 1, 15, 16, 17, 31])
    def test_a_cut_record_is_refused(self, width: int) -> None:
        assert self.valid(self.batch.rows[:, :, :width], self.batch.nonces) == [False] * 3

    def test_a_record_that_is_too_wide_is_refused(self) -> None:
        wider = np.pad(self.batch.rows, ((0, 0), (0, 0), (0, 1)))
        assert self.valid(wider, self.batch.nonces) == [False] * 3

    def test_bits_beyond_the_vector_are_refused_even_from_a_holder_of_the_key(self) -> None:
        records = self.owner._records
        packed = np.pad(pack(self.stored), ((0, 0), (0, 11)))
        packed[0, 5] = 1
        packed[1, 15] = 128
        rows = records._siv.seal(packed, records._associated(self.batch.nonces))[:, None]
        assert self.valid(rows, self.batch.nonces) == [False, False, True]

    @pytest.mark.parametrize("nonce", [None, b"", bytes(15), bytes(17), bytes(30)])
    def test_a_nonce_that_is_missing_or_of_another_length_is_refused(self, nonce: bytes | None) -> None:
        assert self.valid(self.batch.rows, [nonce, *(one.tobytes() for one in self.batch.nonces[1:])]) == [
            False,
            True,
            True,
        ]

    @pytest.mark.parametrize("count", [0, 2])
    def test_an_answer_without_exactly_one_record_a_row_is_refused(self, count: int) -> None:
        queries = self.owner.encrypt_queries(self.stored)
        rows = np.repeat(self.batch.rows[:, :1], count, axis=1)
        sentence = f"answered with {count} ciphertexts a row, expected one record"
        with pytest.raises(InvalidAnswer, match=sentence):
            queries.read(rows, self.batch.nonces)
        with pytest.raises(InvalidAnswer, match=sentence):
            queries.confirm(rows, self.batch.nonces, 1)

    def test_stored_rows_with_other_numbers_of_records_are_refused(self) -> None:
        (record,), *_ = (one.ciphertexts() for one in self.batch)
        nonce = self.batch[0].nonce
        valid = self.owner.decrypt_vec_batch([[record], [], [record, record], [b"x" * 100]], [nonce] * 4)[1]
        assert valid.tolist() == [True, False, False, False]

    def test_as_many_nonces_as_rows_are_expected(self) -> None:
        with pytest.raises(InvalidArgument, match="got 3 rows but 2 nonces"):
            self.owner.decrypt_vec_batch(self.batch.rows, self.batch.nonces[:2])


def test_vectors_that_do_not_fit_are_refused() -> None:
    owner = client(8)
    for wrong in ([[0] * 7], [[0] * 9], [[2] * 8], [["a"] * 8]):
        for call in (owner.encrypt_vec_batch, owner.encrypt_queries):
            with pytest.raises(InvalidVector):
                call(wrong)


# What the service refuses


def test_the_service_knows_the_scheme_and_the_width_of_its_rows() -> None:
    for embed_len in LENGTHS:
        owner = client(embed_len)
        evaluation = SchemeRegistry().evaluation(owner.type, json.dumps(owner.public_key()))
        assert evaluation.row_bytes == record_bytes(embed_len)
    assert [record_bytes(d) for d in (1, 128, 129, 384, 512, 1024, 4096)] == [32, 32, 48, 64, 80, 144, 528]


def test_a_record_is_stored_at_full_width_and_sent_without_the_zeros_at_its_end() -> None:
    evaluation = LatticeEvaluation(8)
    assert evaluation.row([b"abc\0\0"]) == b"abc".ljust(32, b"\0")
    assert evaluation.index(b"abc".ljust(32, b"\0")) == [b"abc"]
    assert evaluation.answer_shape([[], []]) == (1, 32)
    evaluation.check_query([], 32)
    evaluation.check_query([], None)


def test_a_cluster_gets_the_evaluation_as_bytes_and_answers_with_the_rows() -> None:
    evaluation: LatticeEvaluation = pickle.loads(pickle.dumps(LatticeEvaluation(8)))  # noqa: S301 - made here
    rows = np.arange(64, dtype=np.uint8).reshape(2, 32)
    assert np.array_equal(evaluation.evaluate(rows, [[], []]), rows)


def test_the_service_refuses_other_indexes_and_queries() -> None:
    evaluation = LatticeEvaluation(8)
    for index, sentence in (
        ([], "has 0 ciphertexts, expected one record"),
        ([b"a", b"b"], "has 2 ciphertexts, expected one record"),
        ([b"x" * 33], "has 33 bytes, expected at most 32"),
    ):
        with pytest.raises(InvalidCiphertext, match=sentence):
            evaluation.row(index)
    with pytest.raises(InvalidCiphertext, match="the query has 1 ciphertexts, expected none"):
        evaluation.check_query([b"x"], 32)


@pytest.mark.parametrize(
    "pk",
    [
        "",
        "[]",
        "{}",
        "not JSON",
        "[" * 5000,
        *(
            json.dumps(PK | change)
            for change in (
                {"parameters": "lattice-2"},
                {"parameters": 1},
                {"embed_len": 0},
                {"embed_len": 4097},
                {"embed_len": True},
                {"embed_len": 8.5},
                {"embed_len": "8"},
                {"embed_len": 2**70},
                {"id": "0F" * 16},
                {"id": "0f" * 15},
                {"id": "0f" * 16 + "\n"},
                {"id": None},
            )
        ),
        *(json.dumps({name: value for name, value in PK.items() if name != missing}) for missing in PK),
    ],
)
def test_the_service_refuses_a_public_key_that_no_client_writes(pk: str) -> None:
    with pytest.raises(InvalidPublicKey, match="pk is not a public key of the scheme lattice"):
        lattice_evaluation(pk)
