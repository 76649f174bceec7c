"""Random sequences of calls against the real server and against a model of it in plain Python: they always agree.

The model is the HTTP contract put into dictionaries: knowledge bases with their chunks, and the contexts that these are
stored under. After every step the counts are compared, and in between everything that can be read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from support.filter_strategies import filters, meta_data
from support.recount import kept, recounted
from support.reference_filter import matches
from support.sequences import sequences
from support.service import Http, LiveService, chunk, ok, problem
from support.toy_paillier import toy_key

CLUSTER = True
STEPS = 40

QUERY = 1000
CONTEXTS = ("first", "second")
# Encrypting is not what is tested: a ciphertext for each small message, made once.
INDEXES = {message: chunk(message)["index"] for message in range(1, 9)}


@dataclass
class Stored:
    """A chunk as the model knows it."""

    context: str
    message: int
    content: str
    meta_data: dict[str, Any]
    name: str


@dataclass
class KnowledgeBase:
    chunks: dict[int, Stored] = field(default_factory=dict)
    next_id: int = 1
    bound: list[str] = field(default_factory=list)


def normal(given: dict[str, Any]) -> dict[str, Any]:
    """Metadata as it is stored: nothing unset, facets once each and not empty."""
    kept = {name: value for name, value in given.items() if value is not None}
    if "facets" in kept:
        kept["facets"] = list(dict.fromkeys(kept["facets"]))
    return {name: value for name, value in kept.items() if value != []}


def patched(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    return normal(before | patch)


contents = st.text(max_size=5).filter(lambda text: "\0" not in text)
messages = st.sampled_from(sorted(INDEXES))
contexts = st.sampled_from(CONTEXTS)
positions = st.lists(st.integers(0, 30), min_size=1, max_size=4, unique=True)
ranges = st.tuples(st.integers(0, 20), st.integers(0, 20))
patches = st.dictionaries(st.sampled_from(["tag1", "tag5"]), st.none() | st.text("ab%", max_size=2), max_size=2) | (
    st.fixed_dictionaries({"facets": st.none() | st.lists(st.sampled_from("abc"), max_size=3)})
)
new_chunks = st.lists(st.tuples(messages, contents, meta_data, st.sampled_from(["", "n", "m"])), max_size=4)


class Agreement(RuleBasedStateMachine):
    """The rules are the calls of the contract; each holds the server's answer against the model's."""

    service: ClassVar[LiveService]
    steps: ClassVar[int] = 0

    kbs = Bundle("kbs")

    @initialize(target=kbs)
    def begin(self) -> Any:
        self.http = Http(self.service.new_organisation())
        self.model: dict[str, KnowledgeBase] = {}
        for context in CONTEXTS:
            self.http.save_context(context)
        return multiple(self._new_kb(), self._new_kb())

    def teardown(self) -> None:
        if hasattr(self, "http"):
            self.http.close()

    def _new_kb(self) -> str:
        kb = self.http.new_kb()
        self.model[kb] = KnowledgeBase()
        return kb

    def _ids(self, kb: str, wanted: list[int]) -> list[int]:
        """Ids that exist and, where the positions go beyond, ids that do not."""
        known = sorted(self.model[kb].chunks)
        return [known[i] if i < len(known) else 1000 + i for i in wanted]

    def _sent(self, message: int, content: str, meta: dict[str, Any], name: str) -> dict[str, Any]:
        return {"chunk_content": content, "index": INDEXES[message], "meta_data": meta, "name": name}

    # Writing

    @rule(kb=kbs, context=contexts, new=new_chunks)
    def insert(self, kb: str, context: str, new: list[Any]) -> None:
        held = self.model[kb]
        ids = self.http.insert(kb, [self._sent(*one) for one in new], context)
        assert ids == list(range(held.next_id, held.next_id + len(new)))
        for chunk_id, (message, content, meta, name) in zip(ids, new, strict=True):
            held.chunks[chunk_id] = Stored(context, message, content, normal(meta), name)
        held.next_id += len(new)
        if context not in held.bound:
            held.bound.append(context)

    @rule(kb=kbs, context=contexts, wanted=positions, one=st.tuples(messages, contents, meta_data, st.just("u")))
    def update(self, kb: str, context: str, wanted: list[int], one: Any) -> None:
        ids, held = self._ids(kb, wanted), self.model[kb]
        body = {"kb_id": kb, "context_id": context}
        updates = [self._sent(*one) | {"chunk_id": chunk_id} for chunk_id in ids]
        answer = self.http.data("PUT", "/chunk/{org}", json=body | {"chunk_updates": updates})
        if not held.chunks.keys() >= set(ids):
            problem(answer, 404, "chunks_not_found")
            return
        assert ok(answer) == {"updated_count": len(ids)}
        for chunk_id in ids:
            message, content, meta, name = one
            held.chunks[chunk_id] = Stored(context, message, content, normal(meta), name)
        if context not in held.bound:
            held.bound.append(context)

    @rule(kb=kbs, wanted=positions, change=patches, name=st.none() | st.just("p"))
    def patch(self, kb: str, wanted: list[int], change: dict[str, Any], name: str | None) -> None:
        ids, held = self._ids(kb, wanted), self.model[kb]
        changes = [{"chunk_id": chunk_id, "meta_data": change, "name": name} for chunk_id in ids]
        body = {"kb_id": kb, "context_id": "first", "chunk_patches": changes}
        answer = self.http.data("PATCH", "/chunk/{org}", json=body)
        if not held.chunks.keys() >= set(ids):
            problem(answer, 404, "chunks_not_found")
            return
        assert ok(answer) == {"updated_count": len(ids)}
        for chunk_id in ids:
            stored = held.chunks[chunk_id]
            stored.meta_data, stored.name = patched(stored.meta_data, change), name or ""

    @rule(kb=kbs, wanted=positions)
    def delete(self, kb: str, wanted: list[int]) -> None:
        ids, held = self._ids(kb, wanted), self.model[kb]
        there = [chunk_id for chunk_id in ids if held.chunks.pop(chunk_id, None)]
        answer = self.http.data("DELETE", "/chunk/{org}", params={"kb_id": kb, "chunk_ids": ids})
        assert ok(answer) == {"deleted_count": len(there)}

    @rule(kb=kbs, context=contexts, filter_=filters, dry=st.booleans())
    def delete_by_metadata(self, kb: str, context: str, filter_: dict[str, Any], dry: bool) -> None:
        ids = self._matching(kb, context, filter_)
        body = {"kb_id": kb, "context_id": context, "meta_filter": filter_, "dry_run": dry}
        answer = ok(self.http.data("DELETE", "/chunk/by-meta/{org}", json=body))
        assert answer == {"would_delete_count" if dry else "deleted_count": len(ids)}
        if not dry:
            for chunk_id in ids:
                del self.model[kb].chunks[chunk_id]

    @rule(kb=kbs, context=contexts, filter_=filters, change=patches, dry=st.booleans())
    def patch_by_metadata(
        self, kb: str, context: str, filter_: dict[str, Any], change: dict[str, Any], dry: bool
    ) -> None:
        ids = self._matching(kb, context, filter_)
        body = {"kb_id": kb, "context_id": context, "meta_filter": filter_, "patch": change, "dry_run": dry}
        answer = ok(self.http.data("PATCH", "/chunk/by-meta/{org}", json=body))
        assert answer == {"would_update_count" if dry else "updated_count": len(ids)}
        if not dry:
            for chunk_id in ids:
                stored = self.model[kb].chunks[chunk_id]
                stored.meta_data = patched(stored.meta_data, change)

    @rule(kb=kbs, context=contexts)
    def bind(self, kb: str, context: str) -> None:
        ok(self.http.data("POST", f"/exec_context/{{org}}/{kb}/bind/{context}"))
        if context not in self.model[kb].bound:
            self.model[kb].bound.append(context)

    @rule(target=kbs)
    def create_knowledge_base(self) -> str:
        return self._new_kb()

    @rule(kb=consumes(kbs))
    def delete_knowledge_base(self, kb: str) -> None:
        ok(self.http.control("DELETE", f"/kbs/{kb}"))
        del self.model[kb]
        problem(self.http.data("GET", "/chunk/{org}", params={"kb_id": kb}), 404, "knowledge_base_not_found")

    @rule(context=contexts)
    def delete_context(self, context: str) -> None:
        answer = self.http.data("DELETE", f"/exec_context/{{org}}/{context}")
        if any(one.context == context for held in self.model.values() for one in held.chunks.values()):
            problem(answer, 409, "context_in_use")
            return
        ok(answer)
        for held in self.model.values():
            if context in held.bound:
                held.bound.remove(context)
        self.http.save_context(context)

    # Reading

    def _matching(self, kb: str, context: str, filter_: dict[str, Any]) -> list[int]:
        chunks = self.model[kb].chunks.items()
        return sorted(i for i, one in chunks if one.context == context and matches(filter_, one.meta_data))

    @rule(kb=kbs, wanted=positions)
    def get(self, kb: str, wanted: list[int]) -> None:
        ids, held = self._ids(kb, wanted), self.model[kb]
        there = [chunk_id for chunk_id in ids if chunk_id in held.chunks]
        found = self.http.get(kb, *ids)
        assert [one["chunk_id"] for one in found] == there
        for one in found:
            stored = held.chunks[one["chunk_id"]]
            assert (one["chunk_content"], one["meta_data"], one["name"], one["index"]) == (
                stored.content,
                stored.meta_data,
                stored.name,
                INDEXES[stored.message],
            )

    @rule(
        kb=kbs, context=contexts, filter_=st.just({}) | filters, bounds=st.none() | st.tuples(*[st.integers(0, 20)] * 2)
    )
    def search(self, kb: str, context: str, filter_: dict[str, Any], bounds: tuple[int, int] | None) -> None:
        more: dict[str, Any] = {"meta_filter": filter_}
        ids = self._matching(kb, context, filter_)
        if bounds is not None:
            more["range"] = list(bounds)
            ids = [chunk_id for chunk_id in ids if bounds[0] <= chunk_id <= bounds[1]]
        rows = self.http.search(kb, [toy_key().encrypt(QUERY)], context, **more)
        sums = [(row[1], toy_key().decrypt(row[0][0])) for row in rows]
        assert sums == [(chunk_id, QUERY + self.model[kb].chunks[chunk_id].message) for chunk_id in ids]

    @rule(kb=kbs, context=contexts, filter_=filters, limit=st.integers(1, 4), order=st.sampled_from(["asc", "desc"]))
    def pages(self, kb: str, context: str, filter_: dict[str, Any], limit: int, order: str) -> None:
        ids = self._matching(kb, context, filter_)
        body: dict[str, Any] = {"kb_id": kb, "context_id": context, "meta_filter": filter_, "limit": limit}
        body["sort_order"], found = order, []
        while True:
            page = ok(self.http.data("POST", "/chunk/meta/page/{org}", json=body))
            assert page["total"] == len(ids)
            found += [one["chunk_id"] for one in page["results"]]
            if not page["has_more"]:
                break
            body["page_token"] = page["next_page_token"]
        assert found == (ids if order == "asc" else ids[::-1])

    @rule(kb=kbs)
    def bound_contexts(self, kb: str) -> None:
        assert ok(self.http.data("GET", f"/exec_context/{{org}}/{kb}/context"))["context_ids"] == self.model[kb].bound

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "http"):
            return
        type(self).steps += 1
        counts = {kb["id"]: kb["numberOfVectors"] for kb in ok(self.http.control("GET", "/kbs"))}
        assert counts == {kb: len(held.chunks) for kb, held in self.model.items()}
        folder = self.service.folder
        assert kept(folder, self.http.org) == recounted(folder, self.http.org)


@contextmanager
def against(service: LiveService) -> Iterator[type[Agreement]]:
    Agreement.service, Agreement.steps = service, 0
    yield Agreement


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_server_and_its_model_agree_after_any_calls(live_service: LiveService) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    with against(live_service) as machine:
        chosen = sequences(STEPS, default=6, full=20)
        run_state_machine_as_test(machine, settings=chosen)
        # Shown with `pytest -s`.
        print(f"{machine.steps} steps")  # noqa: T201
        assert machine.steps > chosen.max_examples * 10
