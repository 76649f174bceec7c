"""Many clients at once: no errors but their own, nothing twice, counts that agree."""

import random
from concurrent.futures import ThreadPoolExecutor

from support.service import Http, chunk, ok
from support.toy_paillier import toy_key

POSTGRES_BY_DEFAULT = True
CLUSTER = True

QUERY = [toy_key().encrypt(1000)]


def test_one_insertion_sent_many_times_at_once_is_stored_once(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(), chunk()]}

    def send(_: int) -> object:
        return ok(http.data("POST", "/chunk/{org}", json=body, headers={"Idempotency-Key": "same"}))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(16)))
    assert answers == [{"chunk_ids": [1, 2]}] * 16
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 2


def test_writers_and_searchers_do_not_disturb_each_other(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()

    def work(seed: int) -> int:
        dice, mine, kept = random.Random(seed), Http(http.credentials), 0
        for step in range(6):
            ids = mine.insert(kb, [chunk(seed, meta_data={"tag1": str(seed)}) for _ in range(dice.randrange(1, 4))])
            kept += len(ids)
            if dice.random() < 0.5:
                params = {"kb_id": kb, "chunk_ids": ids[:1]}
                assert ok(mine.data("DELETE", "/chunk/{org}", params=params)) == {"deleted_count": 1}
                kept -= 1
            patch = {"kb_id": kb, "context_id": "ctx", "meta_filter": {"tag1": str(seed)}}
            changed = mine.data("PATCH", "/chunk/by-meta/{org}", json=patch | {"patch": {"tag2": str(step)}})
            assert ok(changed) == {"updated_count": kept}
            # Each client sees at once what it has written itself.
            rows = mine.search(kb, QUERY, meta_filter={"tag1": str(seed)})
            assert [toy_key().decrypt(row[0][0]) for row in rows] == [1000 + seed] * kept
        mine.close()
        return kept

    with ThreadPoolExecutor(12) as pool:
        kept = sum(pool.map(work, range(12)))
    assert len(http.search(kb, QUERY)) == kept
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == kept
