"""Two servers over one PostgreSQL: what the one writer of SQLite keeps apart is kept apart between them too."""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support import databases, sealing_races
from support.recount import kept, recounted
from support.sealing import sealing_client
from support.server_process import ServerProcess
from support.service import Http, LiveService, chunk, ok, problem, running_service
from support.sharing import Sharing, two_replace_the_same_version
from support.toy_paillier import toy_key
from xtrace_server.auth import issuing
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.auth.keys import first_n, new_key
from xtrace_server.operations import organisations

DATABASES = (databases.POSTGRES,)
pytestmark = pytest.mark.usefixtures("database")

ROUNDS = 12
QUERY = [toy_key().encrypt(1000)]


@pytest.fixture(scope="module")
def folder(database: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the first server, to which the database belongs."""
    return tmp_path_factory.mktemp("two") / "one"


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LiveService]:
    """The first server, in a thread of this process."""
    with running_service(folder) as running:
        yield running


@pytest.fixture(scope="module")
def second_url(service: LiveService, unused_tcp_port_factory: Callable[[], int]) -> Iterator[str]:
    """The address of the second server, in a process of its own."""
    port, url = unused_tcp_port_factory(), service.server.settings.database_url
    server = ServerProcess(service.folder.with_name("two"), port=port, database_url=url)
    server.start()
    yield f"http://127.0.0.1:{port}"
    assert server.terminate() == 0


@pytest.fixture
def both(service: LiveService, second_url: str) -> Iterator[list[Http]]:
    """A client of one organisation at each server."""
    credentials = service.new_organisation()
    clients = []
    for url in (service.url, second_url):
        credentials.api_url = url
        clients.append(Http(credentials))
    yield clients
    for client in clients:
        client.close()


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the calls return, made at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        running: list[Future[Any]] = [pool.submit(call) for call in calls]
        return [one.result() for one in running]


def save(http: Http, context_id: str, **more: Any) -> httpx2.Response:
    public = toy_key().context_data
    data = {"type": public.type, "pk": public.pk, "config": public.config, **more.pop("data", {})}
    return http.data("POST", "/exec_context/{org}", json={"context_id": context_id, "data": data, **more})


def waiting(folder: Path) -> int:
    """How many transactions wait for a lock."""
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    (count,) = databases.execute(folder, query)[0]
    return int(count)


def wait_for(count: int, folder: Path) -> None:
    """Returns once that many transactions wait for a lock."""
    while waiting(folder) < count:
        time.sleep(0.01)


# Blocks


@pytest.mark.parametrize(
    "race",
    [
        sealing_races.two_seal_the_same_chunks,
        sealing_races.a_deletion_meets_a_new_block,
        sealing_races.searches_meet_new_blocks,
    ],
)
def test_each_chunk_is_in_exactly_one_place(race: Callable[..., None], both: list[Http], folder: Path) -> None:
    race(sealing_client(both[0]), both, folder, 3)


# Shared indexes


def test_of_two_that_replace_the_same_version_exactly_one_wins(both: list[Http], folder: Path) -> None:
    both[0].save_context()
    kb = both[0].new_kb()
    two_replace_the_same_version([Sharing(http, kb) for http in both], rounds=6)
    assert kept(folder, both[0].org) == recounted(folder, both[0].org)


# Execution contexts


def test_a_context_saved_twice_at_once_is_stored_once(both: list[Http]) -> None:
    for i in range(ROUNDS):
        answers = at_once([lambda http=http, i=i: save(http, f"c{i}") for http in both * 2])  # type: ignore[misc]
        assert [answer.status_code for answer in answers] == [200] * 4
        different = [{"config": f'{{"from": {j}}}'} for j in range(2)]
        calls = [lambda h=h, d=d, i=i: save(h, f"d{i}", data=d) for h, d in zip(both, different, strict=True)]
        assert sorted(answer.status_code for answer in at_once(calls)) == [200, 409]


def test_a_name_that_two_contexts_want_at_once_is_given_to_one(both: list[Http]) -> None:
    for i in range(ROUNDS):
        calls = [lambda h=h, j=j, i=i: save(h, f"{i}-{j}", name=f"n{i}") for j, h in enumerate(both * 2)]
        assert len({ok(answer)["context_id"] for answer in at_once(calls)}) == 1


def test_a_context_is_deleted_or_something_is_stored_under_it(both: list[Http]) -> None:
    outcomes = set()
    kb = both[0].new_kb()
    for i in range(2 * ROUNDS):
        ok(save(both[0], f"c{i}"))
        if i % 2:
            ok(both[0].data("POST", f"/exec_context/{{org}}/{kb}/bind/c{i}"))
        body = {"kb_id": kb, "context_id": f"c{i}", "chunks": [chunk()]}
        inserted, deleted = at_once(
            [
                lambda body=body: both[0].data("POST", "/chunk/{org}", json=body),  # type: ignore[misc]
                lambda i=i: both[1].data("DELETE", f"/exec_context/{{org}}/c{i}"),  # type: ignore[misc]
            ]
        )
        outcomes.add((inserted.status_code, deleted.status_code))
        found = both[1].data("GET", f"/exec_context/{{org}}/c{i}")
        if inserted.status_code == 200:
            problem(deleted, 409, "context_in_use")
            assert len(both[1].get(kb, ok(inserted)["chunk_ids"][0])) == 1
            ok(found)
        else:
            problem(inserted, 404, "context_not_found")
            ok(deleted)
            problem(found, 404, "context_not_found")
    assert outcomes <= {(200, 409), (404, 200)}


def test_nothing_is_stored_under_a_context_after_it_was_retired(both: list[Http], folder: Path) -> None:
    http, other = both
    ok(save(http, "c"))
    kb = http.new_kb()
    http.insert(kb, [chunk()], context="c")
    with databases.postgres.connect(folder) as holder, ThreadPoolExecutor(2) as pool:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM knowledge_base WHERE id = %s FOR UPDATE", [kb])
        body = {"kb_id": kb, "context_id": "c", "chunks": [chunk()]}
        insertion = pool.submit(http.data, "POST", "/chunk/{org}", json=body)
        wait_for(1, folder)
        retirement = pool.submit(other.data, "POST", "/exec_context/{org}/c/retire")
        wait_for(2, folder)
        assert not retirement.done()
        holder.execute("COMMIT")
        assert (insertion.result().status_code, retirement.result().status_code) == (200, 200)
    problem(http.data("POST", "/chunk/{org}", json=body), 409, "context_retired")


# Keys and permissions


def test_permissions_set_at_once_leave_one_of_them(both: list[Http]) -> None:
    http = both[0]
    kb = http.new_kb()
    for _ in range(ROUNDS):
        made = ok(http.control("POST", "/keys", json={"name": "k"}))["apiKey"]["hash"]
        grant = f"/keys/{made}/permissions/{kb}"
        calls = [
            lambda h=h, p=p, g=grant: h.control("PUT", g, json={"permission": p})
            for h, p in zip(both * 2, (1, 3, 7, 1), strict=True)
        ]
        assert [answer.status_code for answer in at_once(calls)] == [200] * 4
        (left,) = ok(http.control("GET", f"/keys/{made}/permissions"))
        assert left["permission"] in (1, 3, 7)


def test_keys_made_at_once_never_begin_alike(both: list[Http], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(ROUNDS):
        same = new_key()
        drawn = itertools.chain([same] * 4, iter(new_key, None))
        monkeypatch.setattr(issuing, "new_key", lambda drawn=drawn: next(drawn))
        calls = [lambda h=h: h.control("POST", "/keys", json={"name": "k"}) for h in both[:1] * 4]
        secrets = [ok(answer)["secretKey"] for answer in at_once(calls)]
        assert len({first_n(secret).lower() for secret in secrets}) == 4
        assert same in secrets


@pytest.mark.parametrize("end", ["revoked", "lowered", "suspended"])
def test_what_ends_a_right_waits_for_writes_under_way_and_is_not_overtaken(
    end: str, both: list[Http], folder: Path, service: LiveService
) -> None:
    http, other = both
    http.save_context()
    kb = http.new_kb()
    made = ok(http.control("POST", "/keys", json={"name": "k"}))
    key_hash, headers = made["apiKey"]["hash"], {"x-api-key": made["secretKey"]}
    ok(http.control("PUT", f"/keys/{key_hash}/permissions/{kb}", json={"permission": 3}))
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]}

    def insert() -> httpx2.Response:
        return http.data("POST", "/chunk/{org}", json=body, headers=headers)

    def act() -> Any:
        if end == "suspended":
            return service.operate(lambda database: organisations.suspend(database, ON_THE_HOST, http.org))
        if end == "revoked":
            return ok(other.control("PATCH", f"/keys/{key_hash}/status/revoke"))
        return ok(other.control("PUT", f"/keys/{key_hash}/permissions/{kb}", json={"permission": 1}))

    with databases.postgres.connect(folder) as holder, ThreadPoolExecutor(3) as pool:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM knowledge_base WHERE id = %s FOR UPDATE", [kb])
        first = pool.submit(insert)
        wait_for(1, folder)
        ended = pool.submit(act)
        wait_for(2, folder)
        second = pool.submit(insert)
        wait_for(3, folder)
        assert not ended.done()
        holder.execute("COMMIT")
        assert first.result().status_code == 200
        ended.result()
        assert second.result().status_code in (401, 403)
    if end == "suspended":
        service.operate(lambda database: organisations.resume(database, ON_THE_HOST, http.org))
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 1


# Chunks


def test_one_insertion_sent_to_both_at_once_is_stored_once(both: list[Http]) -> None:
    both[0].save_context()
    kb = both[0].new_kb()
    for i in range(ROUNDS):
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(), chunk()]}
        headers = {"Idempotency-Key": f"k{i}"}
        calls = [lambda h=h: h.data("POST", "/chunk/{org}", json=body, headers=headers) for h in both * 3]  # noqa: B023
        assert len({str(ok(answer)) for answer in at_once(calls)}) == 1
    assert ok(both[0].control("GET", f"/kbs/{kb}"))["numberOfVectors"] == 2 * ROUNDS


def test_an_idempotency_key_for_two_insertions_at_once_is_for_one_of_them(both: list[Http]) -> None:
    both[0].save_context()
    kbs = [http.new_kb() for http in both]
    for i in range(ROUNDS):
        calls = [
            lambda h=h, kb=kb, i=i: h.data(
                "POST",
                "/chunk/{org}",
                json={"kb_id": kb, "context_id": "ctx", "chunks": [chunk()]},
                headers={"Idempotency-Key": f"k{i}"},
            )
            for h, kb in zip(both, kbs, strict=True)
        ]
        assert sorted(answer.status_code for answer in at_once(calls)) == [200, 422]
    assert sum(ok(both[0].control("GET", f"/kbs/{kb}"))["numberOfVectors"] for kb in kbs) == ROUNDS


def test_each_unique_name_is_stored_by_one(both: list[Http]) -> None:
    both[0].save_context()
    kb = both[0].new_kb()
    names = [f"n{i}" for i in range(40)]

    def store(http: Http, seed: int) -> int:
        chunks = [chunk(name=name) for name in random.Random(seed).sample(names, len(names))]
        body = {"kb_id": kb, "context_id": "ctx", "chunks": chunks, "on_conflict": "skip"}
        return int(ok(http.data("POST", "/chunk/{org}", json=body))["results"].count("inserted"))

    assert sum(at_once([lambda h=h, s=s: store(h, s) for s, h in enumerate(both * 3)])) == len(names)  # type: ignore[misc]


def test_counts_agree_and_each_server_sees_at_once_what_the_other_wrote(both: list[Http]) -> None:
    both[0].save_context()
    kb = both[0].new_kb()

    def work(number: int) -> int:
        dice, mine, other, kept = random.Random(number), *random.Random(number).sample(both, 2), 0
        for _ in range(8):
            ids = mine.insert(kb, [chunk(number, meta_data={"tag1": str(number)}) for _ in range(dice.randrange(1, 4))])
            kept += len(ids)
            assert len(other.search(kb, QUERY, meta_filter={"tag1": str(number)})) == kept
            if dice.random() < 0.5:
                ok(other.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": ids[:1]}))
                kept -= 1
                rows = mine.search(kb, QUERY, meta_filter={"tag1": str(number)})
                assert [toy_key().decrypt(row[0][0]) for row in rows] == [1000 + number] * kept
        return kept

    kept = sum(at_once([lambda i=i: work(i) for i in range(6)]))  # type: ignore[misc]
    for http in both:
        assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == kept
        assert len(http.search(kb, QUERY)) == kept


def operated(service: LiveService, method: str, http: Http, path: str = "", **arguments: Any) -> Any:
    """What the operator's route answers about an organisation."""
    address = f"{service.url}/api/v1/operator/organisations/{http.org}{path}"
    return ok(httpx2.request(method, address, headers=service.operator_headers, timeout=60, **arguments))


def test_a_quota_holds_for_what_is_stored_through_both_at_once(both: list[Http], service: LiveService) -> None:
    one = both[0]
    one.save_context()
    kbs = [one.new_kb() for _ in range(4)]
    operated(service, "PATCH", one, "/quotas", json={"chunks": 50, "contexts": 3})
    sent = [{"kb_id": kb, "context_id": "ctx", "chunks": [chunk()] * 7} for kb in kbs] * 3
    calls = [
        lambda h=h, body=body: h.data("POST", "/chunk/{org}", json=body)
        for h, body in zip(itertools.cycle(both), sent, strict=False)
    ]
    assert sorted(answer.status_code for answer in at_once(calls)) == [200] * 7 + [403] * 5
    calls = [lambda h=h, i=i: save(h, f"c{i}") for i, h in enumerate(both * 3)]
    assert sorted(answer.status_code for answer in at_once(calls)) == [200] * 2 + [403] * 4
    counted = recounted(service.folder, one.org)
    assert kept(service.folder, one.org) == counted
    assert (counted["chunks"], counted["contexts"]) == (49, 3)


def test_requests_to_both_are_counted_together(both: list[Http], service: LiveService) -> None:
    for http in both * 5:
        ok(http.data("GET", "/exec_context/{org}"))
    while operated(service, "GET", both[0])["usage"]["requestsToday"] < 10:
        time.sleep(0.05)
    operated(service, "PATCH", both[0], "/quotas", json={"requestsPerDay": 10})
    for http in both:
        problem(http.data("GET", "/exec_context/{org}"), 403, "quota_exceeded")
    assert operated(service, "GET", both[0])["usage"]["requestsToday"] == 10


def test_nothing_is_stored_for_an_organisation_after_its_deletion(service: LiveService, second_url: str) -> None:
    for _ in range(3):
        credentials = service.new_organisation()
        clients = []
        for url in (service.url, second_url):
            credentials.api_url = url
            clients.append(Http(credentials))
        clients[0].save_context()
        kb = clients[0].new_kb()
        body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk()] * 20}
        calls: list[Callable[[], Any]] = [
            lambda h=h, body=body: h.data("POST", "/chunk/{org}", json=body).status_code  # type: ignore[misc]
            for h in clients * 4
        ]
        calls += [lambda h=h: h.control("POST", "/kbs", json={"name": "late"}).status_code for h in clients]  # type: ignore[misc]
        calls.append(lambda h=clients[0]: operated(service, "DELETE", h))  # type: ignore[misc]
        *statuses, deleted = at_once(calls)
        assert deleted == {"id": clients[0].org}
        assert set(statuses) <= {200, 401, 404}
        query = "SELECT count(*) FROM organisation WHERE id = ? AND erased_at IS NULL"
        while databases.execute(service.folder, query, clients[0].org) != [(0,)]:
            time.sleep(0.02)
        assert recounted(service.folder, clients[0].org) == {"chunks": 0, "bytes": 0, "contexts": 0}
        left = "SELECT count(*) FROM knowledge_base WHERE organisation_id = ?"
        assert databases.execute(service.folder, left, clients[0].org) == [(0,)]
        for http in clients:
            http.close()


def test_a_deadlock_is_broken_and_the_operation_begun_again(both: list[Http], folder: Path) -> None:
    http = both[0]
    ok(save(http, "c"))
    kb = http.new_kb()
    http.insert(kb, [chunk()], context="c")
    with databases.postgres.connect(folder) as holder, ThreadPoolExecutor(1) as pool:
        holder.execute("BEGIN")
        holder.execute("SELECT 1 FROM knowledge_base WHERE id = %s FOR UPDATE", [kb])
        retirement = pool.submit(http.data, "POST", "/exec_context/{org}/c/retire")
        wait_for(1, folder)  # it holds the context, and wants the knowledge base
        holder.execute("SELECT 1 FROM execution_context WHERE id = 'c' AND organisation_id = %s FOR UPDATE", [http.org])
        holder.execute("COMMIT")
        ok(retirement.result())


# Starting


@pytest.mark.long
def test_any_number_of_servers_start_at_once_on_a_new_database(
    tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    url = databases.postgres.url(tmp_path)
    servers = [
        ServerProcess(tmp_path / str(number), port=unused_tcp_port_factory(), database_url=url) for number in range(4)
    ]
    for server in servers:
        server.begin()
    for server in servers:
        server.wait_until_ready()
    assert databases.execute(tmp_path, "SELECT count(*) FROM organisation") == [(1,)]
    (alone,) = [server for server in servers if (server.folder / "credentials.json").exists()]
    http = Http(alone.credentials)
    http.new_kb()
    http.close()
    for server in servers:
        assert server.terminate() == 0
