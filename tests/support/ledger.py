"""Clients that write all the time, and what they know of it: what was acknowledged, and what nobody answered."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from support.server_process import ServerProcess
from support.service import Http, chunk, ok
from support.toy_paillier import toy_key

QUERY = [toy_key().encrypt(1000)]

# Encrypting is not what is tested: few ciphertexts, made once.
INDEXES = [chunk(message)["index"] for message in range(8)]


@dataclass
class Ledger:
    """What one client knows of its chunks. Each chunk's content is its version; the tag says whose it is."""

    sure: dict[int, str] = field(default_factory=dict)
    """Chunks that the server has acknowledged, with the content acknowledged last."""
    changes: list[dict[int, str | None]] = field(default_factory=list)
    """Changes without an answer: what each would make of its chunks, None for deleted; of all of them or of none."""
    unanswered: list[set[str]] = field(default_factory=list)
    """Insertions without an answer: the contents of each, of which all or none are stored."""
    acknowledged: int = 0

    @property
    def in_doubt(self) -> int:
        """How many requests had no answer."""
        return len(self.changes) + len(self.unanswered)


class Client(threading.Thread):
    """Inserts, updates, patches and deletes chunks of its own until it is told to end. Never repeats a request."""

    def __init__(self, server: ServerProcess, kb: str, number: int) -> None:
        super().__init__(name=f"client-{number}")
        self._http = Http(server.credentials)
        self._kb, self._number = kb, number
        self._dice = random.Random(number)
        self._version = 0
        self.ledger = Ledger()
        self.ended = threading.Event()
        self.refusals: list[str] = []
        self.database_may_fail = False
        """Whether a 503 is an answer that says nothing."""

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._step()
            except httpx2.ConnectError:
                time.sleep(0.01)  # the server is being started again
        self._http.close()

    def _step(self) -> None:
        doubtful = {chunk_id for change in self.ledger.changes for chunk_id in change}
        usable = [chunk_id for chunk_id in self.ledger.sure if chunk_id not in doubtful]
        if len(usable) < 5 or self._dice.random() < 0.4:
            self._insert()
        else:
            ids = self._dice.sample(usable, self._dice.randrange(1, 5))
            self._dice.choice([self._update, self._patch, self._remove])(ids)

    def _content(self) -> str:
        self._version += 1
        return f"{self._number}-{self._version}"

    def _chunk(self, **fields: Any) -> dict[str, Any]:
        tags = {"tag1": str(self._number), "facets": ["a", "b"]}
        return {"chunk_content": self._content(), "index": self._dice.choice(INDEXES), "meta_data": tags, **fields}

    def _send(self, method: str, **arguments: Any) -> Any:
        """The JSON of the answer; None if there was none. Raises `ConnectError` for what was never sent."""
        try:
            answer = self._http.data(method, "/chunk/{org}", **arguments)
        except httpx2.ConnectError:
            raise
        except httpx2.TransportError:
            return None
        if answer.status_code == 503 and self.database_may_fail:
            time.sleep(0.05)
            return None  # the database may have committed before it was gone
        if answer.status_code != 200:
            self.refusals.append(answer.text)
            return None
        self.ledger.acknowledged += 1
        return answer.json()

    def _body(self, **fields: Any) -> dict[str, Any]:
        return {"kb_id": self._kb, "context_id": "ctx", **fields}

    def _insert(self) -> None:
        # Large enough to be more than one page of the write-ahead log, and one statement.
        chunks = [self._chunk() for _ in range(self._dice.choice([1, 3, 40]))]
        contents = [one["chunk_content"] for one in chunks]
        answer = self._send("POST", json=self._body(chunks=chunks))
        if answer is None:
            self.ledger.unanswered.append(set(contents))
        else:
            self.ledger.sure |= zip(answer["chunk_ids"], contents, strict=True)

    def _update(self, ids: list[int]) -> None:
        updates = [self._chunk(chunk_id=chunk_id) for chunk_id in ids]
        self._write("PUT", {one["chunk_id"]: one["chunk_content"] for one in updates}, chunk_updates=updates)

    def _patch(self, ids: list[int]) -> None:
        patches = [{"chunk_id": chunk_id, "chunk_content": self._content()} for chunk_id in ids]
        contents = dict(zip(ids, [str(one["chunk_content"]) for one in patches], strict=True))
        self._write("PATCH", contents, chunk_patches=patches)

    def _write(self, method: str, contents: dict[int, str], **fields: Any) -> None:
        if self._send(method, json=self._body(**fields)) is None:
            self.ledger.changes.append(dict(contents))
        else:
            self.ledger.sure |= contents

    def _remove(self, ids: list[int]) -> None:
        if self._send("DELETE", params={"kb_id": self._kb, "chunk_ids": ids}) is None:
            self.ledger.changes.append(dict.fromkeys(ids))
        else:
            for chunk_id in ids:
                del self.ledger.sure[chunk_id]


def settle(ledger: Ledger, stored: dict[int, str]) -> None:
    """Compares the ledger with what is stored of the client's chunks, and makes sure of what was doubtful."""
    for change in ledger.changes:
        done = {stored.get(chunk_id) == content for chunk_id, content in change.items()}
        assert len(done) == 1, "half of a change is stored"
        if done == {True}:
            for chunk_id, content in change.items():
                if content is None:
                    del ledger.sure[chunk_id]
                else:
                    ledger.sure[chunk_id] = content
    ledger.changes.clear()
    by_content = {content: chunk_id for chunk_id, content in stored.items()}
    for inserted in ledger.unanswered:
        present = inserted & by_content.keys()
        assert present in (set(), inserted), "half of an insertion is stored"
        ledger.sure |= {by_content[content]: content for content in present}
    ledger.unanswered.clear()
    assert stored == ledger.sure


def check(http: Http, kb: str, clients: Sequence[Client]) -> int:
    """Everything the clients know is so; the number of chunks."""
    total = 0
    for client in clients:
        body = {
            "kb_id": kb,
            "context_id": "ctx",
            "meta_filter": {"tag1": str(client._number)},
            "return_content": True,
            "projection": ["chunk_content", "facets", "index"],
        }
        found = ok(http.data("POST", "/chunk/meta/{org}", json=body))
        assert all(one["meta_data"] == {"facets": ["a", "b"]} and one["index"] for one in found)
        settle(client.ledger, {one["chunk_id"]: one["chunk_content"] for one in found})
        total += len(found)
    assert ok(http.control("GET", f"/kbs/{kb}"))["numberOfVectors"] == total
    assert len(http.search(kb, QUERY)) == total
    return total


def successor(server: ServerProcess, kb: str, client: Client) -> Client:
    """A client that goes on where this one has ended."""
    following = Client(server, kb, client._number)
    following.ledger, following._version, following._dice = client.ledger, client._version, client._dice
    following.database_may_fail = client.database_may_fail
    following.start()
    return following
