"""What a search costs the database: the statements of a whole request over HTTP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from support.service import Http, chunk
from support.toy_paillier import toy_key

POSTGRES_BY_DEFAULT = True
pytestmark = pytest.mark.usefixtures("database")

_REPEATED = 5


@contextmanager
def noted() -> Iterator[list[str]]:
    """Every statement that a database of this process runs meanwhile."""
    ran: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        ran.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield ran
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def statements(request: Callable[[], object]) -> list[str]:
    """The statements of a request: the fewest of several times, as the server's own work may run beside one."""
    found = []
    for _ in range(_REPEATED):
        with noted() as ran:
            request()
        found.append(ran)
    return min(found, key=len)


def test_a_search_over_rows_in_memory_is_two_statements(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk(i) for i in range(1, 6)])
    query = [toy_key().encrypt(1000)]
    assert len(http.search(kb, query)) == 5
    for request in (lambda: http.search(kb, query), lambda: http.search(kb, query, range=[2, 3])):
        caller, target = statements(request)
        assert "FROM organisation" in caller
        assert "FROM knowledge_base" in target


def test_a_filter_is_one_statement_more_in_a_transaction(http: Http) -> None:
    http.save_context()
    kb = http.new_kb()
    http.insert(kb, [chunk(i, meta_data={"tag1": "t"}) for i in range(1, 6)])
    query = [toy_key().encrypt(1000)]
    assert len(http.search(kb, query)) == 5
    ran = statements(lambda: http.search(kb, query, meta_filter={"tag1": "t"}))
    caller, target, matches = [one for one in ran if one != "BEGIN"]  # which PostgreSQL's driver does not report
    assert "FROM organisation" in caller
    assert "FROM knowledge_base" in target
    assert "FROM chunk" in matches
