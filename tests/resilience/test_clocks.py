"""The clock of the server's host jumps, forwards and back, in the middle of everything."""

import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo

import pytest

from support.service import Http, chunk, ok
from support.toy_paillier import toy_key

QUERY = [toy_key().encrypt(1000)]
JUMPS = [timedelta(hours=-3), timedelta(hours=3), timedelta(days=-400)]


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Moves the clock that the server's modules read, from then on; timers go on, as they do on a host."""
    real = time.time

    def set_clock(by: timedelta) -> None:
        class Jumped(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "Jumped":
                return cls.fromtimestamp(real() + by.total_seconds(), tz)

        monkeypatch.setattr(time, "time", lambda: real() + by.total_seconds())
        for name, module in list(sys.modules.items()):
            if name.startswith("xtrace_server.") and isinstance(vars(module).get("datetime"), type):
                monkeypatch.setattr(module, "datetime", Jumped)

    return set_clock


@pytest.mark.parametrize("by", JUMPS, ids=str)
def test_writes_searches_and_repetitions_go_on(http: Http, jump: Callable[[timedelta], None], by: timedelta) -> None:
    http.save_context()
    kb = http.new_kb()
    assert http.client.get("/readyz").status_code == 200
    body = {"kb_id": kb, "context_id": "ctx", "chunks": [chunk(1), chunk(2)]}
    first = ok(http.data("POST", "/chunk/{org}", json=body, headers={"idempotency-key": "one"}))["chunk_ids"]
    assert len(http.search(kb, QUERY)) == 2
    jump(by)
    # What was sent before the jump, and sent again after it, is recognised.
    assert ok(http.data("POST", "/chunk/{org}", json=body, headers={"idempotency-key": "one"}))["chunk_ids"] == first
    assert http.client.get("/readyz").status_code == 200
    further = http.insert(kb, [chunk(3)])
    assert further[0] > first[-1]
    assert [row[1] for row in http.search(kb, QUERY)] == first + further
    read = {one["chunk_id"]: one for one in http.get(kb, *first)}
    patch = {"chunk_id": first[0], "name": "x", "if_updated_at": read[first[0]]["updated_at"]}
    change = {"kb_id": kb, "context_id": "ctx", "chunk_patches": [patch]}
    assert ok(http.data("PATCH", "/chunk/{org}", json=change)) == {"updated_count": 1}
    # A client that has read the state before that change is told so, whatever the clock says.
    assert http.data("PATCH", "/chunk/{org}", json=change).status_code == 409
    jump(timedelta(0))
    assert ok(http.data("POST", "/chunk/{org}", json=body, headers={"idempotency-key": "one"}))["chunk_ids"] == first
    assert [row[1] for row in http.search(kb, QUERY)] == first + further
    assert http.client.get("/readyz").status_code == 200
