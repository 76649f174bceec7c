"""Reading rows as they are stored: decrypted once, compared in the clear, and what is remembered is bounded."""

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xtrace_core.frames import RowBlock
from xtrace_sdk.errors import InvalidRows
from xtrace_sdk.x_vec.retrievers import stored_rows
from xtrace_sdk.x_vec.retrievers.stored_rows import StoredRows
from xtrace_sdk.x_vec.schemes.ciphertexts import EncryptedIndexBatch, row_digest
from xtrace_sdk.x_vec.schemes.paillier.lookup import PaillierLookupClient

COUNT = 12


class Counting(PaillierLookupClient):
    """Counts the rows that it decrypts."""

    decrypted = 0

    def decrypt_vec_batch(self, rows: Any, nonces: Any) -> Any:
        self.decrypted += len(rows)
        return super().decrypt_vec_batch(rows, nonces)


@pytest.fixture(scope="module", params=[13, 300])
def scheme(request: pytest.FixtureRequest) -> Counting:
    """Vectors of one ciphertext, and of two."""
    return Counting.generate(request.param, 256, insecure_allow_weak_parameters=True)


def vectors(scheme: Counting) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 2, (COUNT, scheme.embed_len), dtype=np.uint8)


async def blocks(index: EncryptedIndexBatch, size: int = 5) -> AsyncIterator[RowBlock]:
    ids = np.arange(1, len(index) + 1)
    for i in range(0, len(index), size):
        part = slice(i, i + size)
        nonces = np.asarray(index.nonces[part])
        lengths = np.full(len(nonces), nonces.shape[1], dtype=np.uint8)
        yield RowBlock(ids[part], np.asarray(index.rows[part]), nonces, lengths)


async def found(rows: StoredRows, index: EncryptedIndexBatch, queries: Any, k: int = COUNT, kb: str = "kb") -> Any:
    nearest, ids = await rows.nearest(blocks(index), kb, queries, k)
    assert ids.tolist() == list(range(1, len(index) + 1))
    return [list(zip(one.distances.tolist(), one.chunk_ids.tolist(), strict=True)) for one in nearest]


async def test_distances_are_those_of_the_vectors_and_every_row_is_decrypted_once(scheme: Counting) -> None:
    stored, index = vectors(scheme), scheme.encrypt_vec_batch(vectors(scheme))
    queries = [np.zeros(scheme.embed_len, np.uint8), stored[3]]
    right = [sorted(zip((stored != query).sum(axis=1).tolist(), range(1, COUNT + 1), strict=True)) for query in queries]
    rows, scheme.decrypted = StoredRows(scheme), 0
    for _ in range(3):
        assert await found(rows, index, queries) == right
        assert await found(rows, index, queries[1:], 2) == [right[1][:2]]
    assert scheme.decrypted == COUNT
    assert await found(rows, index, queries, kb="another") == right
    assert scheme.decrypted == 2 * COUNT


async def test_a_row_that_is_not_the_same_is_decrypted_again(scheme: Counting) -> None:
    rows, index = StoredRows(scheme), scheme.encrypt_vec_batch(vectors(scheme))
    query = [np.zeros(scheme.embed_len, np.uint8)]
    await found(rows, index, query)
    other = scheme.encrypt_vec_batch(1 - vectors(scheme))
    changed = EncryptedIndexBatch(index.rows.copy(), index.nonces.copy())
    changed.rows[4], changed.nonces[4] = other.rows[4], other.nonces[4]
    scheme.decrypted = 0
    distances = {chunk_id: distance for distance, chunk_id in (await found(rows, changed, query))[0]}
    assert distances[5] == int((1 - vectors(scheme)[4]).sum())
    assert scheme.decrypted == 1
    # What was valid under an id and a nonce says nothing for other ciphertexts with them.
    for broken in (
        EncryptedIndexBatch(np.roll(index.rows, 1, axis=0), index.nonces),
        EncryptedIndexBatch(index.rows, np.roll(index.nonces, 1, axis=0)),
    ):
        with pytest.raises(InvalidRows) as raised:
            await found(rows, broken, query)
        assert raised.value.chunk_ids == list(range(1, COUNT + 1))


async def test_what_is_remembered_is_bounded_and_forgotten_when_chunks_are_gone(
    scheme: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = 16 + -(-scheme.embed_len // 8) + stored_rows._ENTRY_BYTES
    monkeypatch.setattr(stored_rows, "MAX_REMEMBERED_BYTES", 10 * entry)
    rows, index = StoredRows(scheme), scheme.encrypt_vec_batch(vectors(scheme))
    query = [np.zeros(scheme.embed_len, np.uint8)]
    first = await found(rows, index, query)
    scheme.decrypted = 0
    assert await found(rows, index, query) == first
    assert scheme.decrypted == COUNT - 10
    rows.keep_only("kb", [])
    scheme.decrypted = 0
    assert await found(rows, index, query, kb="another") == first
    assert await found(rows, index, query, kb="another") == first
    assert scheme.decrypted == COUNT + COUNT - 10


async def test_an_answer_of_another_shape_is_an_error(scheme: Counting) -> None:
    index = scheme.encrypt_vec_batch(vectors(scheme))
    doubled = EncryptedIndexBatch(np.concatenate([index.rows, index.rows], axis=1), index.nonces)
    with pytest.raises(InvalidRows, match=f"for {COUNT} chunks"):
        await found(StoredRows(scheme), doubled, [np.zeros(scheme.embed_len, np.uint8)])


def test_a_digest_tells_rows_apart_whatever_their_width() -> None:
    assert row_digest([b"\x01\x02\0\0"], b"n").hex() == row_digest([b"\x01\x02"], b"n").hex()
    different = [([b"ab"], b"n"), ([b"a", b"b"], b"n"), ([b"b"], b"na"), ([b"ab"], None), ([b"n", b"ab"], None)]
    assert len({row_digest(*one) for one in different}) == len(different)
