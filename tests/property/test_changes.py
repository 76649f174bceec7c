"""A copy that is kept up to date from what has changed equals what the server has, whatever was written in between.

The rules write to one knowledge base under two contexts, and let copies advance page by page. A copy that applied
everything up to a revision, and asks with it, is told of every difference.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from support.sequences import sequences
from support.service import Http, LiveService, chunk, ok
from xtrace_server.search import removals
from xtrace_server.storage import deletions

POSTGRES_BY_DEFAULT = True
STEPS = 25

CONTEXTS = ("first", "second")
# Encrypting is not what is tested: a ciphertext for each small message, made once.
INDEXES = {message: chunk(message)["index"] for message in range(1, 5)}

contexts = st.sampled_from(CONTEXTS)
positions = st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True)
metas = st.fixed_dictionaries({"tag1": st.sampled_from("abc"), "facets": st.lists(st.sampled_from("xy"), max_size=2)})
sent = st.builds(
    lambda content, message, meta: {"chunk_content": content, "index": INDEXES[message], "meta_data": meta},
    st.text("abc", max_size=3),
    st.sampled_from(sorted(INDEXES)),
    metas,
)
patches = st.one_of(
    st.fixed_dictionaries({"chunk_content": st.text("def", max_size=3)}),
    st.fixed_dictionaries({"meta_data": st.fixed_dictionaries({"tag1": st.sampled_from("abc")})}),
    st.fixed_dictionaries({"meta_data": st.fixed_dictionaries({"facets": st.lists(st.sampled_from("xyz"))})}),
    st.fixed_dictionaries({"name": st.sampled_from(["", "p", "q"])}),
)


@dataclass
class Copy:
    """What a client has of the chunks under one context, and how far it is."""

    http: Http
    kb: str
    context: str
    limit: int = 3
    chunks: dict[int, dict[str, Any]] = field(default_factory=dict)
    since: int = 0
    after: int = 0
    first_revision: int | None = None
    """Of the first page, while a round is under way."""

    def ask(self, limit: int | None = None) -> Any:
        body = {"kb_id": self.kb, "context_id": self.context, "since": self.since, "after": self.after}
        answer = ok(self.http.data("POST", "/local/changes/{org}", json=body | {"limit": limit or self.limit}))
        assert sorted(answer["chunk_ids"]) == answer["chunk_ids"]
        assert all(one > self.after for one in answer["chunk_ids"])
        assert answer["revision"] >= self.since
        return answer

    def advance(self) -> bool:
        """Applies a page; says whether it was the last of a round."""
        answer = self.ask()
        if self.first_revision is None:
            self.first_revision = answer["revision"]
        for one in self._fetched(answer["chunk_ids"]):
            self.chunks[one["chunk_id"]] = one
        if answer["has_more"]:
            assert answer["living"] is answer["gone"] is None
            assert len(answer["chunk_ids"]) == self.limit
            self.after = answer["chunk_ids"][-1]
            return False
        if answer["living"] is not None:
            assert self.since
            assert answer["gone"] is None
            self._drop_outside(answer["living"])
        if answer["gone"] is not None:
            assert self.since
            assert sorted(set(answer["gone"])) == answer["gone"]
            self.chunks = {one: self.chunks[one] for one in self.chunks if one not in answer["gone"]}
        self.since, self.after, self.first_revision = self.first_revision, 0, None
        return True

    def finish(self) -> None:
        """Ends the round that is under way, and makes another one."""
        while not self.advance():
            pass
        while not self.advance():
            pass

    def _fetched(self, chunk_ids: list[int]) -> list[dict[str, Any]]:
        return self.http.get(self.kb, *chunk_ids) if chunk_ids else []

    def _drop_outside(self, living: list[list[int]]) -> None:
        assert all(first <= last for first, last in living)
        assert all(last + 1 < first for (_, last), (first, _) in pairwise(living)), "ranges that touch are one"
        inside = {one for one in self.chunks if any(first <= one <= last for first, last in living)}
        self.chunks = {one: self.chunks[one] for one in self.chunks if one in inside}


class Changes(RuleBasedStateMachine):
    """The rules are the writes of the contract, and the steps of copies."""

    service: ClassVar[LiveService]

    @initialize(limits=st.tuples(st.integers(1, 4), st.integers(1, 4)))
    def begin(self, limits: tuple[int, int]) -> None:
        self.http = Http(self.service.new_organisation())
        self.kb = self.http.new_kb()
        for context in CONTEXTS:
            self.http.save_context(context)
        pairs = zip(CONTEXTS, limits, strict=True)
        self.copies = {context: Copy(self.http, self.kb, context, limit) for context, limit in pairs}

    def teardown(self) -> None:
        if hasattr(self, "http"):
            for copy in self.copies.values():
                self._check(copy)
            self.http.close()

    def _stored(self, context: str) -> dict[int, dict[str, Any]]:
        body = {"kb_id": self.kb, "context_id": context, "meta_filter": {}}
        ids = [one["chunk_id"] for one in ok(self.http.data("POST", "/chunk/meta/{org}", json=body))]
        return {one["chunk_id"]: one for one in (self.http.get(self.kb, *ids) if ids else [])}

    def _ids(self, wanted: list[int]) -> list[int]:
        known = sorted(one for context in CONTEXTS for one in self._stored(context))
        return [known[i] for i in wanted if i < len(known)]

    def _check(self, copy: Copy) -> None:
        copy.finish()
        assert copy.chunks == self._stored(copy.context)
        answer = copy.ask()
        assert (answer["chunk_ids"], answer["has_more"], answer["living"], answer["gone"]) == ([], False, None, None)

    @rule(context=contexts, new=st.lists(sent, min_size=1, max_size=5))
    def insert(self, context: str, new: list[Any]) -> None:
        self.http.insert(self.kb, new, context)

    @rule(context=contexts, new=sent, name=st.sampled_from("uv"), deed=st.sampled_from(["skip", "replace"]))
    def insert_unique(self, context: str, new: Any, name: str, deed: str) -> None:
        body = {"kb_id": self.kb, "context_id": context, "chunks": [new | {"name": name}], "on_conflict": deed}
        ok(self.http.data("POST", "/chunk/{org}", json=body))

    @rule(context=contexts, wanted=positions, new=sent)
    def update(self, context: str, wanted: list[int], new: Any) -> None:
        updates = [new | {"chunk_id": chunk_id} for chunk_id in self._ids(wanted)]
        body = {"kb_id": self.kb, "context_id": context, "chunk_updates": updates}
        assert self.http.data("PUT", "/chunk/{org}", json=body).status_code == 200

    @rule(wanted=positions, change=patches)
    def patch(self, wanted: list[int], change: dict[str, Any]) -> None:
        changes = [change | {"chunk_id": chunk_id} for chunk_id in self._ids(wanted)]
        body = {"kb_id": self.kb, "context_id": "first", "chunk_patches": changes}
        # A name that another chunk has is refused.
        assert self.http.data("PATCH", "/chunk/{org}", json=body).status_code in (200, 409)

    @rule(context=contexts, i=st.integers(0, 12), message=st.sampled_from(sorted(INDEXES)))
    def patch_vector(self, context: str, i: int, message: int) -> None:
        ids = sorted(self._stored(context))
        changes = [{"chunk_id": one, "index": INDEXES[message]} for one in ids[i : i + 1]]
        body = {"kb_id": self.kb, "context_id": context, "chunk_patches": changes}
        ok(self.http.data("PATCH", "/chunk/{org}", json=body))

    @rule(context=contexts, tag=st.sampled_from("abc"), change=metas)
    def patch_by_metadata(self, context: str, tag: str, change: Any) -> None:
        body = {"kb_id": self.kb, "context_id": context, "meta_filter": {"tag1": tag}, "patch": change}
        ok(self.http.data("PATCH", "/chunk/by-meta/{org}", json=body))

    @rule(wanted=positions)
    def delete(self, wanted: list[int]) -> None:
        params = {"kb_id": self.kb, "chunk_ids": [*self._ids(wanted), 10_000]}
        ok(self.http.data("DELETE", "/chunk/{org}", params=params))

    @rule(context=contexts, filter_=st.just({}) | st.fixed_dictionaries({"tag1": st.sampled_from("abc")}))
    def delete_by_metadata(self, context: str, filter_: Any) -> None:
        body = {"kb_id": self.kb, "context_id": context, "meta_filter": filter_}
        ok(self.http.data("DELETE", "/chunk/by-meta/{org}", json=body))

    @rule(context=contexts, comes_back=st.booleans())
    def delete_context(self, context: str, comes_back: bool) -> None:
        self.delete_by_metadata(context, {})
        ok(self.http.data("DELETE", f"/exec_context/{{org}}/{context}"))
        if not comes_back:
            self._check(self.copies[context])
        self.http.save_context(context)

    @rule(context=contexts)
    def advance(self, context: str) -> None:
        self.copies[context].advance()

    @rule(context=contexts)
    def check(self, context: str) -> None:
        self._check(self.copies[context])


@pytest.mark.timeout(900)
def test_a_copy_is_told_of_every_difference(live_service: LiveService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "STEP", 2)  # so that most deletions are carried out later
    monkeypatch.setattr(removals, "MOST_KEYS", 6)  # so that the server often does not know what was deleted
    Changes.service = live_service
    run_state_machine_as_test(Changes, settings=sequences(STEPS, default=5, full=20))
