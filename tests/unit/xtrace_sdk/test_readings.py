"""Distances that only a service vouches for, and the records that confirm them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from xtrace_sdk.errors import ChangedSinceSearch, InvalidAnswer, InvalidRows
from xtrace_sdk.x_vec.retrievers import readings as module
from xtrace_sdk.x_vec.retrievers.readings import Reading, Readings, RememberedReadings, check_records
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
VECTORS = np.random.default_rng(3).integers(0, 2, (5, 24), dtype=np.uint8)
QUERIES = VECTORS[:2] ^ np.eye(2, 24, dtype=np.uint8)
IDS = np.array([2, 3, 5, 7, 11])


@pytest.fixture(scope="module")
def client() -> LatticeClient:
    return LatticeClient.create(24, SchemeParameters())


def reading() -> Reading:
    distances = (VECTORS[None] != QUERIES[:, None]).sum(axis=2).astype(np.uint16)
    return Reading(IDS, QUERIES, distances, NOW)


def fetched(client: LatticeClient, **changes: Any) -> list[dict[str, Any]]:
    rows = client.encrypt_vec_batch(VECTORS)
    before = (NOW - timedelta(days=1)).isoformat()
    chunks = [
        {"chunk_id": int(i), "index": row.ciphertexts(), "nonce": row.nonce, "updated_at": before}
        for i, row in zip(IDS, rows, strict=True)
    ]
    chunks[3] |= changes
    return chunks


def test_honest_distances_are_confirmed_for_every_candidate_and_query(client: LatticeClient) -> None:
    expected = list(reading().expected(IDS))
    assert [(one.position, one.distance) for one in expected[:2]] == [(0, 1), (0, int(reading().distances[1, 0]))]
    assert len(expected) == 10
    check_records(client, fetched(client), expected)
    assert list(reading().expected(np.array([1, 4, 12]))) == []


@pytest.mark.parametrize("change", ["another vector", "another nonce", "no nonce", "cut"])
def test_another_record_is_named_or_said_to_be_changed(change: str, client: LatticeClient) -> None:
    (other,) = client.encrypt_vec_batch(1 - VECTORS[3:4])
    kinds: dict[str, dict[str, Any]] = {
        "another vector": {"index": other.ciphertexts(), "nonce": other.nonce},
        "another nonce": {"nonce": other.nonce},
        "no nonce": {"nonce": None},
        "cut": {"index": [b"x"]},
    }
    changes = kinds[change]
    expected = list(reading().expected(IDS))
    with pytest.raises(InvalidRows) as bad:
        check_records(client, fetched(client, **changes), expected)
    assert bad.value.chunk_ids == [7]
    for updated_at in (NOW.isoformat(), "2026-05-06T07:08:09.000001Z", "2026-05-07T00:00:00"):
        with pytest.raises(ChangedSinceSearch) as changed:
            check_records(client, fetched(client, **changes, updated_at=updated_at), expected)
        assert changed.value.chunk_id == 7
    with pytest.raises(InvalidAnswer, match="updated_at"):
        check_records(client, fetched(client, **changes, updated_at="yesterday"), expected)


def test_the_oldest_distances_are_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 2 * reading().size)
    remembered, kept = RememberedReadings(), [Readings.of([reading()]) for _ in range(3)]
    for one in kept:
        remembered.add(one)
    assert [one.is_forgotten for one in kept] == [True, False, False]
