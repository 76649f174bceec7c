"""Many clients at once see no error but their own; clients that are killed in the middle of a load can run again."""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.forked import Account, forking
from support.loading import load
from support.service import Http, LiveService, chunk, ok, problem
from support.toy_paillier import toy_key
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext

pytestmark = pytest.mark.long

CLIENTS = 64
QUERY = [toy_key().encrypt(1000)]
STEPS = 4 if "XTRACE_TEST_FULL" in os.environ else 2
CHUNKS = 400
KILLS = 4
PASSPHRASE = "insecure, for tests"


def test_64_clients_of_one_knowledge_base_see_only_what_they_cause(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    made = [chunk(message) for message in range(1, 9)]

    def work(number: int) -> int:
        mine, dice, tag = Http(http.credentials), random.Random(number), {"tag1": str(number)}
        kept: dict[int, str] = {}
        base = {"kb_id": kb, "context_id": "ctx"}
        for step in range(STEPS):
            message = number % 8
            new = [made[message] | {"meta_data": tag} for _ in range(dice.randrange(1, 4))]
            kept |= dict.fromkeys(mine.insert(kb, new), "")
            patched = dice.choice(sorted(kept))
            patches = [{"chunk_id": patched, "meta_data": {"tag2": str(step)}}]
            assert ok(mine.data("PATCH", "/chunk/{org}", json=base | {"chunk_patches": patches})) == {
                "updated_count": 1
            }
            rows = mine.search(kb, QUERY, meta_filter=tag)
            assert [row[1] for row in rows] == sorted(kept)
            assert {toy_key().decrypt(row[0][0]) for row in rows} == {1001 + message}
            gone = dice.choice(sorted(kept))
            assert (
                ok(mine.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": gone}))["deleted_count"] == 1
            )
            del kept[gone]
            # What a client causes itself is told to it alone.
            patches = [{"chunk_id": gone, "name": "x"}]
            problem(mine.data("PATCH", "/chunk/{org}", json=base | {"chunk_patches": patches}), 404, "chunks_not_found")
        mine.close()
        return len(kept)

    with ThreadPoolExecutor(CLIENTS) as pool:
        kept = sum(pool.map(work, range(CLIENTS)))
    assert len(http.search(kb, QUERY)) == kept
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == kept


def test_clients_killed_in_the_middle_of_a_load_leave_no_duplicates(
    http: Http, live_service: LiveService, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    ExecutionContext.create(PassphraseKeyProvider("passphrase", insecure_log2_n=4), "paillier_lookup", 32, path=context)
    kb = http.new_kb()
    client = (Account.of(http.credentials), str(context), kb, range(CHUNKS), None, 20)
    dice, stored = random.Random(3), [0]
    for _ in range(KILLS):
        process = forking().Process(target=load, args=client)
        process.start()
        # Somewhere after its next batches: where exactly is chance.
        wanted = stored[-1] + dice.randrange(20, 60)
        deadline = time.monotonic() + 60
        while process.is_alive() and number_of_vectors(http, kb) < wanted and time.monotonic() < deadline:
            time.sleep(dice.uniform(0.001, 0.01))
        process.kill()
        process.join()
        stored.append(number_of_vectors(http, kb))
        process.close()
    assert stored == sorted(stored)
    assert 0 < stored[1] < CHUNKS, stored
    load(*client)
    (context_id,) = ok(http.data("GET", "/exec_context/{org}"))["contexts"]
    body = {"kb_id": kb, "context_id": context_id, "meta_filter": {}}
    found = ok(http.data("POST", "/chunk/meta/{org}", json=body))
    assert len(found) == len({one["name"] for one in found}) == CHUNKS
    load(*client)
    assert number_of_vectors(http, kb) == CHUNKS


def number_of_vectors(http: Http, kb: str) -> int:
    return int(ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"])
