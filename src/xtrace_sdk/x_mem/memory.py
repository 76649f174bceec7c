"""`Memory`: what an agent remembers, for whom, and since when."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

from xtrace_core.secrecy import Secretive
from xtrace_sdk.arguments import Above, Fraction, OwnCheck, Positive, checked_calls
from xtrace_sdk.collection.collection import Collection, WhereFilter
from xtrace_sdk.collection.where import parse_where
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.x_mem.extraction import MAX_KNOWN, LanguageModel, extract, merges
from xtrace_sdk.x_mem.facts import Change, Fact, Recalled, as_utc, same_text, scope_id
from xtrace_sdk.x_mem.ranking import ranked
from xtrace_sdk.x_mem.storage import FactStore, Where, thread_of_first, thread_of_key
from xtrace_sdk.x_mem.versions import in_order
from xtrace_sdk.x_vec.chunks.vectors import Embedder

Remembered = Annotated[str | Sequence[Mapping[str, str]], OwnCheck]
"""A text, or messages: objects with `role` and `content`."""
Days = Annotated[float, Above(0)]
Tags = Annotated[Sequence[str], OwnCheck]

_ASKED_ABOUT: Final = 10
"""How many known facts a language model is told of when it extracts new ones."""
_RERANKED: Final = 4
"""How many times k facts are ranked again where age or importance weigh."""


def utc_now() -> datetime:
    """This machine's time."""
    return datetime.now(UTC)


@checked_calls
class Memory(Secretive):
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
        if embedding is None and not collection.embeds_texts:
            raise InvalidArgument("no model is known: open the collection with embedding=…, or pass one")
        self._store = FactStore(collection, embedding)
        self._llm = llm
        self._clock = clock
        self._scope: dict[str, str | None] = {"user": None, "agent": None, "session": None}

    def scope(self, user: str | None = None, agent: str | None = None, session: str | None = None) -> Self:
        """Returns the same memory for a user, an agent, a session, within the scope of this one.

        What it remembers belongs to exactly this scope. It recalls, lists and forgets what is in this scope and in
        narrower ones: `scope(user="anna")` recalls what was remembered in her sessions too. Raises `InvalidArgument`
        for another user, agent or session than this memory's.
        """
        made = type(self).__new__(type(self))
        made._store, made._llm, made._clock = self._store, self._llm, self._clock
        made._scope = dict(self._scope)
        for name, value in {"user": user, "agent": agent, "session": session}.items():
            if value is not None:
                if made._scope[name] not in (None, _named(name, value)):
                    raise InvalidArgument(f"this memory is that of another {name}: take the scope from a wider one")
                made._scope[name] = value
        return made

    # Writing

    async def remember(
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
        texts = _texts(what)
        moment = self._clock()
        draft = Fact(
            id="",
            text="",
            **self._scope,
            kind=_named("kind", kind),
            key=None if key is None else _named("key", key),
            tags=_tags(tags),
            importance=importance,
            learned_at=as_utc(moment),
            valid_from=as_utc(at or moment),
            valid_to=None,
            superseded_by=None,
            expires_at=None if expires is None else as_utc(expires),
            source=source,
            metadata=dict(metadata or {}),
            thread="",
        )
        if draft.valid_from > draft.learned_at:
            raise InvalidArgument("at is in the future, expected a time until now")
        if self._llm is not None:
            messages = [{"role": "user", "content": what}] if isinstance(what, str) else what
            return await self._remember_extracted(self._llm, messages, draft)
        return [await self._remember_one(replace(draft, text=text)) for text in texts]

    async def consolidate(self) -> list[Change]:
        """Lets the language model merge facts of this exact scope that say the same; returns the new facts.

        At most 200 of the facts that hold, the newest, are sent to it. The merged ones stay in the history. Raises
        `InvalidArgument` without a language model, and `InferenceError`.
        """
        if self._llm is None:
            raise InvalidArgument("consolidating needs a language model: pass llm=… to Memory")
        holding = [fact for fact in await self.facts() if fact.scope_id == self._scope_id and fact.key is None]
        facts = holding[-MAX_KNOWN:]
        changes = []
        for merge in await merges(self._llm, facts) if len(facts) > 1 else []:
            before = [facts[i] for i in merge.ids]
            changes.append(await self._merge(merge.text, before))
        return changes

    # Reading

    async def recall(
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
        moment = as_utc(at or self._clock())
        conditions = [*self._held(at, moment, superseded), self._in_scope(), *_chosen(where)]
        conditions += [{"kind": kind}] if kind is not None else []
        conditions += [{"tags": {"$all": list(_tags(tags))}}] if tags else []
        weighs = half_life_days is not None or importance_weight > 0
        found = await self._store.nearest(query, _RERANKED * k if weighs else k, {"$and": conditions}, min_similarity)
        return ranked(found, moment, half_life_days, importance_weight)[:k]

    async def get(self, id: str) -> Fact | None:  # noqa: A002 - the field of a fact
        """Returns the fact with this id, also if it was superseded; None if the scope has none."""
        found = [fact for fact in await self._store.get([id]) if self._is_inside(fact)]
        return found[0] if found else None

    async def facts(self, where: WhereFilter | None = None, *, superseded: bool = False) -> list[Fact]:
        """Returns the facts of the scope that hold now, by the time since when they hold.

        With `superseded`, also superseded facts, and those that have expired.
        """
        conditions = [self._in_scope(), *_chosen(where)]
        if not superseded:
            conditions += self._held(None, as_utc(self._clock()), False)
        return in_order(await self._store.matching({"$and": conditions}))

    async def history(self, id_or_key: str) -> list[Fact]:
        """Returns all versions of the fact with this id, or with this key in this exact scope, the newest first.

        Facts that were merged into one of them are among them.
        """
        fact = await self.get(id_or_key)
        where = {"scope": self._scope_id, "thread": thread_of_key(id_or_key)}
        found = await (self._store.matching(where) if fact is None else self._store.thread(fact))
        merged = (await self._store.with_older(found)).values()
        return in_order(merged)[::-1]

    async def forget(self, *ids: str, where: WhereFilter | None = None, everything: bool = False) -> int:
        """Deletes facts of the scope and every older version of each; returns how many.

        Name them by ids, by a filter (which sees superseded facts too), or all with `everything`. Raises
        `InvalidArgument` unless exactly one is given.
        """
        if bool(ids) + (where is not None) + everything != 1:
            raise InvalidArgument("expected ids, where=… or everything=True: one of them says what to forget")
        if everything:
            return await self._store.delete_matching(self._in_scope())
        if ids:
            chosen = [fact for fact in await self._store.get(list(dict.fromkeys(ids))) if self._is_inside(fact)]
        else:
            chosen = await self._store.matching({"$and": [self._in_scope(), *_chosen(where)]})
        return await self._store.delete(list(await self._store.with_older(chosen)))

    # One fact

    async def _remember_extracted(
        self, llm: LanguageModel, messages: Sequence[Mapping[str, str]], draft: Fact
    ) -> list[Change]:
        related = await self.recall("\n".join(one["content"] for one in messages), _ASKED_ABOUT, min_similarity=-1.0)
        known = [one.fact for one in related if one.fact.scope_id == self._scope_id]
        changes = []
        for found in await extract(llm, messages, known):
            replaced = None if found.replaces is None else known[found.replaces]
            changes.append(
                await self._remember_one(
                    replace(
                        draft,
                        text=found.text,
                        key=found.key or draft.key,
                        importance=draft.importance if found.importance is None else found.importance,
                    ),
                    replaced,
                )
            )
        return changes

    async def _remember_one(self, draft: Fact, replaced: Fact | None = None) -> Change:
        new_id = uuid.uuid4().hex
        if replaced is not None:
            draft = replace(draft, key=replaced.key, thread=replaced.thread)
        elif draft.key is not None:
            draft = replace(draft, thread=thread_of_key(draft.key))
        if (known := await self._known(draft)) is not None:
            return Change("known", known)
        new = replace(draft, id=new_id, thread=draft.thread or thread_of_first(new_id))
        if new.thread == thread_of_first(new_id):
            await self._store.write([new])
            return Change("added", new)
        thread = await self._store.add_to_thread(new)
        before = tuple(fact.id for fact in thread if fact.superseded_by == new_id)
        (stored,) = [fact for fact in thread if fact.id == new_id]
        return Change("superseded" if before else "added", stored, before)

    async def _known(self, draft: Fact) -> Fact | None:
        """The fact with the same text that holds at the same time, if there is one."""
        where: Where = {"scope": draft.scope_id, "same": same_text(draft.text)}
        where |= {"thread": draft.thread} if draft.thread else {"kind": draft.kind}
        for fact in await self._store.matching(where):
            if fact.holds_at(draft.valid_from) and (fact.expires_at is None or fact.expires_at > draft.learned_at):
                return fact
        return None

    async def _merge(self, text: str, before: Sequence[Fact]) -> Change:
        moment, new_id = as_utc(self._clock()), uuid.uuid4().hex
        new = replace(
            max(before, key=lambda fact: fact.importance),
            id=new_id,
            text=text,
            tags=tuple(sorted({tag for fact in before for tag in fact.tags})),
            learned_at=moment,
            valid_from=moment,
            expires_at=None,
            metadata={},
            source=None,
            thread=thread_of_first(new_id),
        )
        # They keep their threads: each held until now, whatever the others did.
        ended = [replace(fact, valid_to=moment, superseded_by=new_id) for fact in before]
        await self._store.write([new, *ended])
        return Change("superseded", new, tuple(fact.id for fact in before))

    # Scopes

    @property
    def _scope_id(self) -> str:
        return scope_id(**self._scope)

    def _in_scope(self) -> Where:
        inside: Where = {name: value for name, value in self._scope.items() if value is not None}
        return inside or {"scope": {"$exists": True}}

    def _is_inside(self, fact: Fact) -> bool:
        return all(value in (None, getattr(fact, name)) for name, value in self._scope.items())

    def _held(self, at: datetime | None, moment: datetime, superseded: bool) -> list[Where]:
        """What holds at the moment, or held then; decided on the service as far as hashes go."""
        conditions: list[Where] = [{"$or": [{"expires_at": {"$exists": False}}, {"expires_at": {"$gt": moment}}]}]
        if at is not None:
            conditions.append({"valid_from": {"$lte": moment}})
        if superseded:
            return conditions
        if at is None:
            return [*conditions, {"holds": True}]
        return [*conditions, {"$or": [{"valid_to": {"$exists": False}}, {"valid_to": {"$gt": moment}}]}]


def _chosen(where: Any) -> list[Any]:
    parse_where(where)
    return [] if where is None else [where]


def _named(name: str, value: str) -> str:
    if not value.strip():
        raise InvalidArgument(f"{name} is empty, expected a word")
    return value


def _tags(tags: Any) -> tuple[str, ...]:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag for tag in tags):
        raise InvalidArgument("tags is not a list of texts that are not empty")
    return tuple(dict.fromkeys(tags))


def _texts(what: Any) -> list[str]:
    """The text, or those of the user's messages."""
    texts = [what]
    if not isinstance(what, str):
        if not isinstance(what, Sequence) or not all(
            isinstance(one, Mapping) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
            for one in what
        ):
            raise InvalidArgument("got neither a text nor messages, expected objects with the texts role and content")
        texts = [one["content"] for one in what if one["role"] == "user"]
    if not all(text.strip() for text in texts):
        raise InvalidArgument("a text to remember is empty")
    return texts
