"""Lists are read from the database a page at a time, however long they are."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, event, insert
from sqlalchemy.engine import Engine

from support.dashboard import Visitor, turned_pages
from support.service import Http, LiveService, ok, running_service
from support.toy_paillier import toy_key
from xtrace_server.auth.keys import new_key
from xtrace_server.credentials import Credentials
from xtrace_server.storage.database import Database
from xtrace_server.storage.schema import api_key, execution_context, knowledge_base, organisation

DATABASES = ("sqlite",)
MANY = 10_000
MOMENT = "2026-01-01T00:00:00.000000Z"
PAGE = 60
"""More rows than any page reads of one list."""
KEY = re.compile(r'<a href="/keys/([0-9a-f]{64})">[^<]*</a></th><td>')
CONTEXT = re.compile(r'<th scope="row"><span class="id"><code title="([^"]*)"')
ORGANISATION = re.compile(r'<th scope="row" class="wrap"><a href="/operator/organisations/([^"]*)"')


def fill(service: LiveService, table: Table, rows: list[dict[str, Any]]) -> None:
    """Adds rows, faster than requests do."""

    async def add(database: Database) -> None:
        async with database.write() as connection:
            await connection.execute(insert(table), rows)

    service.operate(add)


def api_keys_of(org: str, count: int) -> list[dict[str, Any]]:
    same = {"organisation_id": org, "description": "", "default_permission": 0, "created_at": MOMENT}
    named = [f"{org[:8]}{i:056x}" for i in range(count)]
    return [
        {**same, "hash": hash_, "first_n": f"k{i:07}", "first_n_folded": f"k{i:07}", "name": f"key {i:05}"}
        for i, hash_ in enumerate(named)
    ]


def contexts_of(org: str, count: int) -> list[dict[str, Any]]:
    same = {"organisation_id": org, "type": "PaillierClient", "config": "{}", "public_key": toy_key().context_data.pk}
    return [{**same, "id": f"context-{i:05}", "created_at": MOMENT, "updated_at": MOMENT} for i in range(count)]


def knowledge_bases_of(org: str, count: int) -> list[dict[str, Any]]:
    zeros = dict.fromkeys(("number_of_vectors", "stored_bytes", "revision", "removal_revision"), 0)
    same = {"organisation_id": org, "description": "", "next_chunk_id": 1, **zeros}
    return [
        {**same, "id": f"{org[:8]}{i:05}", "name": f"base {i:05}", "created_at": MOMENT, "updated_at": MOMENT}
        for i in range(count)
    ]


@contextmanager
def fetched() -> Iterator[list[int]]:
    """Counts the rows that each statement of this process returns."""
    counts: list[int] = []

    def count(_: Any, cursor: Any, *__: Any) -> None:
        rows = getattr(cursor, "_rows", None)
        counts.append(0 if rows is None else len(rows))

    event.listen(Engine, "after_cursor_execute", count)
    try:
        yield counts
    finally:
        event.remove(Engine, "after_cursor_execute", count)


def test_a_page_reads_a_page_of_rows(admin: Visitor, live_service: LiveService, credentials: Credentials) -> None:
    for table, rows in ((api_key, api_keys_of), (knowledge_base, knowledge_bases_of)):
        fill(live_service, table, rows(credentials.org_id, MANY))
    admin.get("/")  # the first page of a session also records its use
    for path in (
        "/",
        "/keys",
        "/keys?find=key+099&sort=name&order=asc",
        f"/keys?sort=name&order=asc&after={credentials.org_id[:8]}{9000:056x}~key+09000&from=9002",
        "/knowledge-bases",
        "/knowledge-bases?find=BASE+07",
        "/visible",
        "/get-started",
    ):
        with fetched() as counts:
            assert admin.get(path).status == 200, path
        assert counts, path
        assert max(counts) <= PAGE, path
        assert len(counts) <= 30, path


def test_of_contexts_only_the_numbers_are_read_again(
    admin: Visitor, live_service: LiveService, credentials: Credentials
) -> None:
    """A public part never changes, so each is looked at once; whether it is still there is asked each time."""
    fill(live_service, execution_context, contexts_of(credentials.org_id, 1500))
    assert "1,500 contexts are weak" in admin.get("/").text
    for path in ("/", "/contexts", "/contexts?after=context-01300&from=1302", "/visible"):
        with fetched() as counts:
            assert admin.get(path).status == 200, path
        assert [count for count in counts if count > PAGE] == [1500], path


def test_the_operator_reads_a_page_of_organisations(empty_service: LiveService) -> None:
    rows = [{"id": f"org-{i:05}", "name": f"Organisation {i:05}", "created_at": MOMENT} for i in range(MANY)]
    fill(empty_service, organisation, rows)
    operator = Visitor(empty_service.url)
    operator.sign_in_operator(next(iter(empty_service.operator_headers.values())))
    for path in ("/operator", "/operator?find=organisation+09", "/operator?sort=name&after=org-09000&from=9001"):
        with fetched() as counts:
            shown = operator.get(path)
        assert "10,001 organisations" in shown.text
        assert max(counts) <= PAGE, path
    operator.close()


@pytest.fixture
def empty_service(tmp_path: Path) -> Iterator[LiveService]:
    """A server of one test, which fills it with organisations."""
    with running_service(tmp_path / "data") as service:
        yield service


def test_lists_are_turned_to_their_end_and_back(
    admin: Visitor, live_service: LiveService, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("operations.api_keys", "dashboard.pages.keys"):
        monkeypatch.setattr(f"xtrace_server.{module}.PAGE_KEYS", 2)
    for module in ("operations.exposure", "dashboard.pages.contexts"):
        monkeypatch.setattr(f"xtrace_server.{module}.PAGE_CONTEXTS", 2)
    org = credentials.org_id
    fill(live_service, api_key, api_keys_of(org, 4))
    fill(live_service, execution_context, contexts_of(org, 5))
    for order in ("sort=used&order=desc", "sort=name&order=asc", "sort=name&order=desc", "sort=expires&order=asc"):
        turned = turned_pages(admin, f"/keys?{order}", KEY)
        assert [len(page) for page in turned] == [2, 2, 1], order
        assert len({one for page in turned for one in page}) == 5
    assert turned_pages(admin, "/keys?find=KEY&sort=name&order=desc", KEY)[0][0].endswith("3")
    turned = turned_pages(admin, "/contexts", CONTEXT)
    assert turned == [["context-00000", "context-00001"], ["context-00002", "context-00003"], ["context-00004"]]
    for wrong in ("after=gone", "before=~", "after=x~y&from=9", "from=x"):
        assert CONTEXT.findall(admin.get(f"/contexts?{wrong}").html) == turned[0]


def test_organisations_are_turned(live_service: LiveService, visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("operations.organisations", "dashboard.pages.operator"):
        monkeypatch.setattr(f"xtrace_server.{module}.PAGE_ORGANISATIONS", 2)
    mark = new_key()[:12]
    made = {live_service.new_organisation(f"{mark} {i}").org_id for i in range(3)}
    visitor.sign_in_operator(next(iter(live_service.operator_headers.values())))
    for sort in ("chunks", "bytes", "requests", "name", "created"):
        turned = turned_pages(visitor, f"/operator?find={mark}&sort={sort}", ORGANISATION)
        assert [len(page) for page in turned] == [2, 1], sort
        assert {one for page in turned for one in page} == made


def test_a_name_is_found_by_a_part_of_it(admin: Visitor, http: Http) -> None:
    for name, find, is_found in (
        ("Überweisungen", "überweis", True),
        ("ÄPFEL", "äpfel", True),
        ("äpfel", "ÄPFEL", True),
        ("100 %", "%", True),
        ("100", "%", False),
        ("a_b", "_", True),
        ("ab", "_", False),
        ("x" * 60_000, "X" * 60_000, True),
        ("x" * 60_000, "X" * 60_001, False),
    ):
        kb = ok(http.control("POST", "/kbs", json={"name": name}))["id"]
        shown = admin.get("/knowledge-bases", params={"find": find})
        assert shown.status == 200
        assert (f"/knowledge-bases/{kb}" in shown.links) is is_found, (name[:20], find[:20])
