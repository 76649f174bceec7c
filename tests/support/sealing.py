"""A knowledge base with blocks, as a client of the HTTP contract makes and searches them.

It knows every vector, so each answer is compared with what it should be: every chunk once, with its distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import msgspec
import numpy as np
from numpy.typing import NDArray

from support import databases
from support.service import Http, b64, ok
from xtrace_core import block_frames
from xtrace_core.lattice.parameters import hint_bytes, slabs
from xtrace_core.wire import MSGPACK, ContextData
from xtrace_sdk.x_vec.schemes.blocks import BlockAnswer
from xtrace_sdk.x_vec.schemes.interface import SchemeParameters
from xtrace_sdk.x_vec.schemes.lattice.scheme import LatticeClient

DIM: Final = 16


def lattice_data(client: LatticeClient) -> ContextData:
    """The public part of a context of this client."""
    public, config = client.public_key(), client.config()
    return ContextData(
        type=client.type, pk=msgspec.json.encode(public).decode(), config=msgspec.json.encode(config).decode()
    )


@dataclass(frozen=True)
class Answer:
    """What a search of blocks found: distances by chunk id."""

    in_blocks: dict[int, list[int]]
    in_none: dict[int, list[int]]
    revision: int

    @property
    def all(self) -> dict[int, list[int]]:
        return {**self.in_blocks, **self.in_none}


@dataclass
class SealingClient:
    """One context in one knowledge base."""

    http: Http
    kb: str
    context: str = "ctx"
    client: LatticeClient = field(default_factory=lambda: LatticeClient.create(DIM, SchemeParameters()))
    vectors: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Of the chunks that are stored, by their ids."""
    nonces: dict[int, bytes] = field(default_factory=dict)
    seed: int = 2

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)
        self.dim = self.client.embed_len
        self.query = np.random.default_rng(1).integers(0, 2, self.dim, dtype=np.uint8)

    def save_context(self) -> None:
        data = msgspec.to_builtins(lattice_data(self.client))
        ok(self.http.data("POST", "/exec_context/{org}", json={"context_id": self.context, "data": data}))

    @property
    def scope(self) -> dict[str, str]:
        return {"kb_id": self.kb, "context_id": self.context}

    def chunk(self, chunk_id: int | None = None, **fields: Any) -> dict[str, Any]:
        """A chunk with a new vector, which is known from then on if the chunk has an id."""
        (vector,) = self._random.integers(0, 2, (1, self.dim), dtype=np.uint8)
        index = self.client.encrypt_vec_one(vector)
        if chunk_id is not None:
            self.vectors[chunk_id], self.nonces[chunk_id] = vector, index.nonce
            fields["chunk_id"] = chunk_id
        sent = {"chunk_content": "text", "meta_data": {}, **fields}
        return {**sent, "index": [b64(index[0].to_bytes(600, "little").rstrip(b"\0"))], "nonce": b64(index.nonce)}

    def insert(self, count: int, **fields: Any) -> list[int]:
        """Stores chunks with random vectors, and returns their ids."""
        vectors = self._random.integers(0, 2, (count, self.dim), dtype=np.uint8)
        indexes = self.client.encrypt_vec_batch(vectors)
        chunks = [
            {
                "chunk_content": f"text {number}",
                "meta_data": {"tag1": f"t{number % 3}"},
                "index": [b64(index[0].to_bytes(600, "little").rstrip(b"\0"))],
                "nonce": b64(index.nonce),
                **fields,
            }
            for number, index in enumerate(indexes)
        ]
        ids = self.http.insert(self.kb, chunks, self.context)
        self.vectors |= dict(zip(ids, vectors, strict=True))
        self.nonces |= {chunk_id: index.nonce for chunk_id, index in zip(ids, indexes, strict=True)}
        return ids

    def forget(self, *chunk_ids: int) -> None:
        """Says that chunks are no longer stored under the context."""
        for chunk_id in chunk_ids:
            del self.vectors[chunk_id], self.nonces[chunk_id]

    def block(self, chunk_ids: Sequence[int], replaces: Sequence[int] = (), **parts: Any) -> bytes:
        """The body of a request that seals the chunks."""
        sealed = self.client.blocks.seal(np.stack([self.vectors[one] for one in chunk_ids]), self.kb)
        request = {
            **self.scope,
            "chunk_ids": list(chunk_ids),
            "nonces": [self.nonces[one] for one in chunk_ids],
            "replaces": list(replaces),
            "header": sealed.header,
            "hints": sealed.hints,
            "body": sealed.body,
            **parts,
        }
        return msgspec.msgpack.encode(request)

    def send(self, block: bytes, http: Http | None = None) -> httpx2.Response:
        """Sends what `block` returned."""
        return (http or self.http).data("POST", "/block/{org}", content=block, headers={"content-type": MSGPACK})

    def seal(self, chunk_ids: Sequence[int], replaces: Sequence[int] = ()) -> int:
        """Seals the chunks, all of which are taken; returns the block's id."""
        sealed = ok(self.send(self.block(chunk_ids, replaces)))
        assert sealed["live"] == len(chunk_ids)
        return int(sealed["block_id"])

    def unseal(self, *block_ids: int) -> int:
        """Removes blocks, and returns how many chunks were in them."""
        params = {**self.scope, "block_ids": list(block_ids)}
        return int(ok(self.http.data("DELETE", "/block/{org}", params=params))["unsealed_count"])

    def plan(self, **more: Any) -> dict[str, Any]:
        """The answer about a search."""
        plan: dict[str, Any] = ok(self.http.data("POST", "/block/plan/{org}", json={**self.scope, **more}))
        return plan

    def blocks(self) -> dict[int, tuple[int, int, bool]]:
        """The count and the live count of each block, and whether some of its slots are dead, by its id."""
        listed = self.plan(list=True)["list"]
        return {one["id"]: (one["count"], one["live_count"], one["dead_since"] is not None) for one in listed}

    def fetched(self, *block_ids: int) -> httpx2.Response:
        """What clients need of the blocks."""
        return self.http.data("GET", "/block/{org}", params={**self.scope, "block_ids": list(block_ids)})

    def search(
        self, http: Http | None = None, queries: Sequence[NDArray[np.uint8]] | None = None, **more: Any
    ) -> Answer:
        """What a search of blocks finds: distances of the chunks in blocks, and those of the others.

        Searches again where a block was replaced before its parts were fetched.
        """
        for _ in range(50):
            found = self._search(http or self.http, queries or [self.query], more)
            if found is not None:
                return found
        raise AssertionError("blocks are replaced all the time")

    def attempt(self, **more: Any) -> httpx2.Response:
        """The answer to a search, whatever it is."""
        return self._sent(self.http, self.client.blocks.queries(self.query[None]).sent, more)

    def _sent(self, http: Http, queries: Sequence[bytes], more: dict[str, Any]) -> httpx2.Response:
        request = msgspec.msgpack.encode({**self.scope, "queries": queries, **more})
        return http.data("POST", "/block/search/{org}", content=request, headers={"content-type": MSGPACK})

    def _search(self, http: Http, queries: Sequence[NDArray[np.uint8]], more: dict[str, Any]) -> Answer | None:
        asked = self.client.blocks.queries(np.stack(queries))
        answer = self._sent(http, asked.sent, more)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == block_frames.MEDIA_TYPE
        read = block_frames.read_answer(answer.content, slabs(self.dim), len(queries))
        parts = block_frames.read_fetched(
            self.fetched(*[one.block_id for one in read.blocks]).content, hint_bytes(self.dim)
        )
        if len(parts) < len(read.blocks):
            return None
        in_blocks: dict[int, list[int]] = {}
        answers = []
        for one, of_block in zip(read.blocks, parts, strict=True):
            assert one.block_id == of_block.block_id
            checked = self.client.blocks.checked(of_block.header, of_block.hints, self.kb)
            answers.append(BlockAnswer(checked, one.slots, one.values))
        ends = np.cumsum([len(one.slots) for one in read.blocks])
        of_blocks = np.split(asked.read(answers), ends, axis=1)[:-1]
        for one, of_block, of_slots in zip(read.blocks, parts, of_blocks, strict=True):
            for slot, distances in zip(one.slots, of_slots.T.tolist(), strict=True):
                chunk_id = int(of_block.chunk_ids[slot])
                assert chunk_id not in in_blocks, "a chunk is in two blocks"
                in_blocks[chunk_id] = distances
        in_none: dict[int, list[int]] = {}
        compared = self.client.encrypt_queries(np.stack(queries))
        for records in read.records:
            nonces = [nonce.tobytes() for nonce in records.nonces]
            found, valid = compared.read(records.ciphertexts, nonces)
            assert valid.all()
            in_none |= dict(zip(records.chunk_ids.tolist(), found.T.tolist(), strict=True))
        assert not in_blocks.keys() & in_none.keys(), "a chunk is in a block and in none"
        return Answer(in_blocks, in_none, read.revision)

    def expected(self, *chunk_ids: int, queries: Sequence[NDArray[np.uint8]] | None = None) -> dict[int, list[int]]:
        """The distances of these chunks, or of all that are stored."""
        ids = chunk_ids or self.vectors
        asked = queries or [self.query]
        return {one: [int((self.vectors[one] != query).sum()) for query in asked] for one in ids}


def sealing_client(http: Http, **fields: Any) -> SealingClient:
    """A client with a new knowledge base, whose context is saved."""
    made = SealingClient(http, http.new_kb(), **fields)
    made.save_context()
    return made


_REFERRING: Final = """
SELECT block_pk, slot FROM chunk JOIN binding ON binding.pk = chunk.binding_pk
JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk AND deleted_at IS NULL
WHERE block_pk IS NOT NULL AND chunk.pk NOT IN (SELECT pk FROM deleted_chunk)
"""
_BLOCKS: Final = """
SELECT block.pk, live, live_count, count, dead_since FROM block JOIN block_body ON block_body.pk = block.pk
JOIN binding ON binding.pk = block.binding_pk
JOIN knowledge_base ON knowledge_base.pk = binding.kb_pk AND deleted_at IS NULL
WHERE live_count > 0
"""


def check_slots(folder: Path) -> None:
    """Compares the live slots of every block with the chunks that refer to it, in the database itself.

    What is being deleted in the background is left out: its rows leave step by step.
    """
    chunks, blocks = databases.snapshot(folder, _REFERRING, _BLOCKS)
    referring: dict[int, list[int]] = {}
    for block_pk, slot in chunks:
        referring.setdefault(block_pk, []).append(slot)
    for pk, live, live_count, count, dead_since in blocks:
        slots = block_frames.slots_of(bytes(live)).tolist()
        assert (slots, len(slots)) == (sorted(referring.pop(pk, [])), live_count)
        assert (dead_since is not None) == (live_count < count)
    assert referring == {}, "chunks refer to blocks that are gone"
