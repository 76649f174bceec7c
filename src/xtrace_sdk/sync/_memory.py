"""Made by `scripts/sync-twins` from `xtrace_sdk.x_mem.memory`: change that, and run the script."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self

from xtrace_sdk.arguments import Fraction, Positive
from xtrace_sdk.collection.collection import WhereFilter
from xtrace_sdk.sync._background import Twin, core_of, in_threads, run
from xtrace_sdk.sync._collection import Collection
from xtrace_sdk.sync._extraction import LanguageModel
from xtrace_sdk.sync._vectors import Embedder
from xtrace_sdk.x_mem import memory as core
from xtrace_sdk.x_mem.facts import Change, Fact, Recalled
from xtrace_sdk.x_mem.memory import Days, Remembered, Tags, utc_now


class Memory(Twin[core.Memory]):
    """Facts in a collection, with their scopes, their times and what superseded them.

    The service sees what it sees of any record (docs/security.md, "Records"): keyed hashes of scopes, kinds, keys and
    tags, by which it filters. Give a memory a collection, or a namespace, of its own, best opened with
    `filterable=FILTERABLE`.
    """

    def __init__(
        self,
        collection: Collection,
        embedding: Embedder | None = None,
        llm: LanguageModel | None = None,
        *,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Nothing is sent yet.

        Args:
            collection: where the facts are stored.
            embedding: the model for facts and questions, by default the collection's.
            llm: a language model, such as an `InferenceClient`, that extracts facts from messages. It sees the
                messages and up to ten related facts in plaintext, and for `consolidate` the scope's facts. Without
                one, nothing leaves this machine unencrypted.
            clock: the time, by default this machine's.

        Raises `InvalidArgument` if neither the collection nor `embedding` has a model.
        """
        self._core = core.Memory(
            core_of(collection), in_threads(embedding, Embedder), in_threads(llm, LanguageModel), clock=clock
        )
        self._held = [collection, embedding, llm]  # a twin that is dropped closes its connections

    def scope(self, user: str | None = None, agent: str | None = None, session: str | None = None) -> Self:
        """Returns the same memory for a user, an agent, a session, within the scope of this one.

        What it remembers belongs to exactly this scope. It recalls, lists and forgets what is in this scope and in
        narrower ones: `scope(user="anna")` recalls what was remembered in her sessions too. Raises `InvalidArgument`
        for another user, agent or session than this memory's.
        """
        twin = type(self).of(self._core.scope(user, agent, session))
        twin._held = self._held
        return twin

    def remember(
        self,
        what: Remembered,
        *,
        key: str | None = None,
        kind: str = "fact",
        tags: Tags = (),
        importance: Fraction = 0.5,
        at: datetime | None = None,
        expires: datetime | None = None,
        source: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[Change]:
        """Remembers a text, or what the messages of a conversation say. Returns what became of each fact.

        Without a language model each message of the user is a fact, and so is a text. With one, it extracts facts, and
        says which known ones they replace.

        Args:
            what: a text, or messages with `role` and `content`.
            key: what the fact is about. In this exact scope, the fact supersedes the one with the same key;
                both stay in the history. A fact that is older than the stored one goes before it.
            kind: any word to tell facts from preferences, instructions, events.
            tags: words to filter by.
            importance: weighs only if `recall` is asked to.
            at: since when it holds, by default now.
            expires: from when on it is not recalled. It is stored until it is forgotten.
            source: where it is from.
            metadata: anything else, as JSON; filters name it as `metadata.field`.

        A text that is known already, but for case and spaces, is not stored again. A new fact and the one that it
        supersedes are stored in one transaction.

        Raises `InvalidArgument`, `InvalidRecord`, and what the models and the service raise.
        """
        return run(
            self._core.remember(
                what,
                key=key,
                kind=kind,
                tags=tags,
                importance=importance,
                at=at,
                expires=expires,
                source=source,
                metadata=metadata,
            )
        )

    def consolidate(self) -> list[Change]:
        """Lets the language model merge facts of this exact scope that say the same; returns the new facts.

        At most 200 of the facts that hold, the newest, are sent to it. The merged ones stay in the history. Raises
        `InvalidArgument` without a language model, and `InferenceError`.
        """
        return run(self._core.consolidate())

    def recall(
        self,
        query: str,
        k: Positive = 8,
        *,
        where: WhereFilter | None = None,
        kind: str | None = None,
        tags: Tags = (),
        at: datetime | None = None,
        superseded: bool = False,
        half_life_days: Days | None = None,
        importance_weight: Fraction = 0.0,
        min_similarity: float = 0.0,
    ) -> list[Recalled]:
        """Returns the `k` facts of the scope most similar to a question or a text, the best first.

        Args:
            query: a text.
            k: the number of facts; fewer only if fewer match.
            where: a filter over the fields of `Fact` (docs/collection.md), such as `{"metadata.topic": "food"}`.
            kind: only facts of this kind.
            tags: only facts with all of these tags.
            at: what held at this time, instead of now.
            superseded: also facts that others have superseded.
            half_life_days: ranks a fact of this age three quarters as high as a new one, one of any age at least half
                as high.
            importance_weight: how much importance weighs: at 1 the least important facts count half, the most
                important one and a half times.
            min_similarity: drops facts that are less similar.

        Facts that have expired are left out. Nothing is written. The service learns the hashes in the filter and which
        records are fetched, not the question.
        """
        return run(
            self._core.recall(
                query,
                k,
                where=where,
                kind=kind,
                tags=tags,
                at=at,
                superseded=superseded,
                half_life_days=half_life_days,
                importance_weight=importance_weight,
                min_similarity=min_similarity,
            )
        )

    def get(self, id: str) -> Fact | None:
        """Returns the fact with this id, also if it was superseded; None if the scope has none."""
        return run(self._core.get(id))

    def facts(self, where: WhereFilter | None = None, *, superseded: bool = False) -> list[Fact]:
        """Returns the facts of the scope that hold now, by the time since when they hold.

        With `superseded`, also superseded facts, and those that have expired.
        """
        return run(self._core.facts(where, superseded=superseded))

    def history(self, id_or_key: str) -> list[Fact]:
        """Returns all versions of the fact with this id, or with this key in this exact scope, the newest first.

        Facts that were merged into one of them are among them.
        """
        return run(self._core.history(id_or_key))

    def forget(self, *ids: str, where: WhereFilter | None = None, everything: bool = False) -> int:
        """Deletes facts of the scope and every older version of each; returns how many.

        Name them by ids, by a filter (which sees superseded facts too), or all with `everything`. Raises
        `InvalidArgument` unless exactly one is given.
        """
        return run(self._core.forget(*ids, where=where, everything=everything))
