"""What the overview and the page about the server count, against what was done."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.dashboard import Visitor
from support.database import open_store
from support.service import Http, LiveService, chunk, ok
from support.toy_paillier import toy_key
from xtrace_core import wire
from xtrace_server.auth.guard import ON_THE_HOST
from xtrace_server.dashboard import charts
from xtrace_server.figures import Figures, this_hour
from xtrace_server.operations import organisations
from xtrace_server.operations.usage import Hour
from xtrace_server.public_parts import modulus_bits
from xtrace_server.storage import usage_hours
from xtrace_server.storage.schema import LATENCIES

QUERY = [toy_key().encrypt(1)]


def test_what_was_done_is_counted(admin: Visitor, http: Http) -> None:
    kb, _ = http.new_kb(), http.save_context()
    ids = http.insert(kb, [chunk(i, meta_data={"tag1": "a", "facets": ["x"]}) for i in range(1, 6)])
    http.search(kb, QUERY)
    http.search(kb, QUERY, meta_filter={"tag1": "a"})
    http.get(kb, *ids[:3])
    assert http.data("GET", "/chunk/{org}", params={"kb_id": "none", "chunk_ids": [1]}).status_code == 404
    shown = admin.get("/").text
    for text in ("Searches, 24 h 2", "Chunks written, 24 h 5", "Errors, 24 h 1", "knowledge_base_not_found 1"):
        assert text in shown
    assert "0 of 5" in shown
    visible = admin.get("/visible").text
    for text in ("3 fetches", "1 of 2 searches", "2 fields", "5 lengths", "1 of 1 context", "Values in plaintext"):
        assert text in visible, text


def test_private_fields_and_protected_secrets_are_told_apart(admin: Visitor, http: Http) -> None:
    data = {"type": "PaillierClient", "pk": toy_key().context_data.pk}
    config = '{"embed_len": 64, "key_len": 256, "private_metadata": ["tag1"]}'
    secret = {"sk": "c2VjcmV0", "key_provider": "passphrase", "wrapped_key": "d3JhcHBlZA=="}
    body = {"context_id": "hashed", "data": {**data, "config": config, **secret}}
    ok(http.data("POST", "/exec_context/{org}", json=body))
    kb = http.new_kb()
    http.insert(kb, [chunk(1, meta_data={"tag1": "h", "tag2": "clear"})], context="hashed")
    visible = admin.get("/visible").text
    for text in ("1 field ", "1 more field is private", "Keyed hashes", "1 is protected by a passphrase"):
        assert text in visible, text
    contexts = admin.get("/contexts")
    for text in ("Weak: its modulus has 512 bits", "passphrase: open to guessing", "tag1", "64 dimensions"):
        assert text in contexts.text, text
    assert "c2VjcmV0" not in contexts.html
    assert "d3JhcHBlZA" not in contexts.html


def test_a_context_without_a_modulus_is_not_called_unknown(admin: Visitor, http: Http) -> None:
    pk = '{"parameters":"lattice-1","embed_len":64,"id":"00112233445566778899aabbccddeeff"}'
    data = {"type": "LatticeClient", "pk": pk, "config": '{"embed_len": 64}'}
    ok(http.data("POST", "/exec_context/{org}", json={"context_id": "records", "data": data}))
    shown = admin.get("/contexts").text
    for text in ("Lattice", "64 dimensions", "symmetric keys"):
        assert text in shown, text
    assert "unknown" not in shown
    assert "is weak" not in shown


def test_what_needs_attention_is_named(admin: Visitor, http: Http, live_service: LiveService) -> None:
    assert "appear here" in admin.get("/").text
    for days in (60, 3, 1, 5, 2):
        expires = (datetime.now(UTC) + timedelta(days=days, hours=1)).isoformat()
        ok(http.control("POST", "/keys", json={"name": f"for {days} days", "expiresAt": expires}))
    quotas = wire.SetQuotas(chunks=2, bytes=10**9)
    live_service.operate(lambda database: organisations.set_quotas(database, ON_THE_HOST, http.org, quotas))
    kb, _ = http.new_kb(), http.save_context()
    http.insert(kb, [chunk(1), chunk(2)])
    shown = admin.get("/").text
    assert "100 % of the quota of vectors is used" in shown
    assert "of the quota of bytes is used" not in shown
    assert "1 context is weak" in shown
    # The three that expire next, in this order.
    assert re.findall(r"Its name is for (\d+) days", shown) == ["1", "2", "3"]


@pytest.mark.parametrize("pk", ["{}", '{"n": true}'])
def test_a_context_of_an_unknown_form_is_listed(pk: str) -> None:
    assert modulus_bits(pk) is None


def test_code_has_ids_and_no_secret(admin: Visitor, http: Http) -> None:
    kb = http.new_kb()
    shown = admin.get("/get-started")
    assert http.org in shown.html
    assert kb in shown.html
    for secret in (http.credentials.api_key, http.credentials.admin_key):
        assert secret not in shown.html


async def test_figures_of_two_servers_add_up_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path) as store:
        org, hour = store.kb.organisation_id, this_hour()
        one, two = Figures(store.database), Figures(store.database)
        async with store.database.write() as connection:
            await usage_hours.add(connection, org, hour - usage_hours.KEPT_HOURS - 1, {"requests": 1})
        for server in (one, two, one):
            server.add_request(org, 0.03, None, is_search=True)
            server.add_request(org, 0.03, "forbidden", is_search=True)
            server.add(org, written=2)
            server.add("none", written=2)
            await server.write()
        await asyncio.gather(one.close(), two.close())
        async with store.database.look_up() as connection:
            found = await usage_hours.since(connection, org, 0)
            errors = await usage_hours.errors_since(connection, org, 0)
    assert set(found) == {hour}
    counts = found[hour]
    assert (counts["requests"], counts["errors"], counts["searches"], counts["written"]) == (6, 3, 3, 6)
    assert sum(counts[name] for name in LATENCIES) == 3
    assert [(one.code, one.count) for one in errors] == [("forbidden", 3)]


async def test_figures_survive_a_database_that_refuses_for_a_while(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        org = store.kb.organisation_id
        counting = Figures(store.database)
        counting.add(org, written=1)
        await store.database.close()
        works, counting._database = counting._database, _Refusing()  # type: ignore[assignment]
        await counting.write()
        counting._database = works
        counting.add(org, written=1)
        await counting.close()
        async with store.database.look_up() as connection:
            found = await usage_hours.since(connection, org, 0)
    assert sum(one["written"] for one in found.values()) == 2


class _Refusing:
    def write(self, **_: object) -> object:
        from xtrace_server.errors import Unavailable

        raise Unavailable("busy")


def test_percentiles_come_from_the_histogram() -> None:
    counts = dict.fromkeys(LATENCIES, 0)
    assert Hour("", counts).latency_ms(0.5) is None
    counts |= {"latency_3": 50, "latency_15": 1}
    hour = Hour("", counts)
    assert 10 < (hour.latency_ms(0.5) or 0) < 20
    assert hour.latency_ms(1.0) == 15_000


def test_charts_are_numbers_alone() -> None:
    assert charts.bars([0, 1, 2]).count("z") == 3
    assert charts.line([None, 1.0, None, 2.0, 3.0], 3.0).count("M") == 2
    assert [charts.round_up(value) for value in (0, 3, 0.3, 214, 1000)] == [1, 5, 0.5, 250, 1000]
