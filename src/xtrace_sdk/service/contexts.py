"""The calls about stored execution contexts. The service has their public part, and of their secrets ciphertext."""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from xtrace_core import wire
from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import ContextNotFound, InvalidAnswer, InvalidArgument
from xtrace_sdk.limits import MAX_CONTEXT_BYTES, MAX_COUNT_BYTES
from xtrace_sdk.service.contract import Service, segment
from xtrace_sdk.service.payloads import encode


@checked_calls
class StoredContexts:
    """The share of `XTraceIntegration` that concerns contexts. Each call raises `ServerError` and `NetworkError`."""

    _service: Service

    async def store_exec_context(
        self, exec_context_dict: Mapping[str, Any], context_id: str, *, name: str | None = None
    ) -> str:
        """Saves a serialised context and returns its id; saving it again adds what was missing.

        `exec_context_dict` has the texts `type`, `pk`, `config` and perhaps `sk` (encrypted), `key_provider`,
        `wrapped_key`. The first context that is saved under a `name` keeps it: if another one has it, nothing is
        stored, and the id of that one is returned. Raises `ContextDiffers` if the id is taken by another public part.
        """
        try:
            data = msgspec.convert(dict(exec_context_dict), wire.ContextData)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"the serialised context is not complete: {error}") from None
        if name is not None and not re.match(wire.CONTEXT_NAME, name):
            raise InvalidArgument("name is not valid, expected 1 to 64 letters, digits, dots, underscores and hyphens")
        body = encode(wire.SaveContext(data, context_id, name))
        saved = await self._service.data(
            "POST", "exec_context", wire.SavedContext, body=body, max_bytes=MAX_COUNT_BYTES
        )
        if name is None and saved.context_id != context_id:
            raise InvalidAnswer("the server answers that it saved another context than the one it was given")
        return saved.context_id

    async def find_exec_context(self, name: str) -> str | None:
        """The id of the context that was saved under a name; None if there is none."""
        path = f"exec_context_name/{{org}}/{segment(name, 'name')}"
        try:
            return (await self._service.data("GET", path, wire.SavedContext, max_bytes=MAX_COUNT_BYTES)).context_id
        except ContextNotFound:
            return None

    async def get_serialized_exec_context(self, context_id: str) -> dict[str, str]:
        """A context as it was saved, of which `sk` is encrypted. Raises `ContextNotFound`."""
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}"
        data = await self._service.data("GET", path, wire.ContextData, max_bytes=MAX_CONTEXT_BYTES)
        stored: dict[str, str] = msgspec.to_builtins(data)
        return stored

    async def list_exec_contexts(self, *, restorable: bool = False) -> list[str]:
        """The ids of the contexts that the key may read; with `restorable` of those that can be loaded from there.

        Loading chunks registers a context's public part alone: such a context is listed, and its file is the only one
        that has its keys. A service that does not say which can be restored is taken to have none.
        """
        asked = [("restorable", "true")] if restorable else []
        answer = await self._service.data("GET", "exec_context", wire.ContextList, parameters=asked)
        if not restorable:
            return answer.contexts
        return [] if answer.restorable is UNSET else answer.restorable

    async def describe_exec_contexts(self) -> list[wire.ListedContext]:
        """The contexts that the key may read, each with its type, its creation and whether it can be restored.

        Of a service that does not tell more than the ids, the type and the creation are None.
        """
        asked = [("restorable", "true"), ("details", "true")]
        answer = await self._service.data("GET", "exec_context", wire.ContextList, parameters=asked)
        if answer.details is not UNSET:
            return answer.details
        restorable = () if answer.restorable is UNSET else answer.restorable
        return [wire.ListedContext(one, None, None, one in restorable) for one in answer.contexts]

    async def delete_exec_context(self, context_id: str) -> Literal[True]:
        """Deletes a context and returns True.

        Raises `ContextInUse` while chunks are stored under it, and `ContextNotFound`.
        """
        await self._service.data_done("DELETE", f"exec_context/{{org}}/{segment(context_id, 'context_id')}")
        return True

    async def retire_exec_context(self, context_id: str) -> None:
        """Retires a context for good: from then on the service raises `ContextRetired` for every write under it.

        What is stored under it can still be read, moved to another context and deleted. Retiring again changes
        nothing. Needs permission 7 on every knowledge base that the context is bound to. Raises `ContextNotFound`.
        """
        await self._service.data_done("POST", f"exec_context/{{org}}/{segment(context_id, 'context_id')}/retire")

    async def get_successor(self, context_id: str) -> str | None:
        """The id of the context that a rotation moves a context's chunks to; None if no rotation has begun.

        Raises `ContextNotFound`.
        """
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}/successor"
        return (await self._service.data("GET", path, wire.Successor, max_bytes=MAX_COUNT_BYTES)).successor

    async def store_successor(self, context_id: str, successor: str, replaces: str | None = None) -> str:
        """Stores a context's successor if there is none, or if `replaces` is there, and returns the one stored then.

        However many rotations begin at once, one of them gets its own. Needs permission 3 on a knowledge base that the
        context is bound to. Raises `ContextNotFound`, and `InvalidAnswer` if nothing is stored.
        """
        body = encode(wire.StoreSuccessor(successor, replaces))
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}/successor"
        answer = await self._service.data("PUT", path, wire.Successor, body=body, max_bytes=MAX_COUNT_BYTES)
        if answer.successor is None:
            raise InvalidAnswer("the server stored no successor, expected it to keep the one that it was given")
        return answer.successor

    async def get_ctx_for_kb(self, kb_id: str) -> list[str]:
        """The ids of the contexts that are bound to a knowledge base. Raises `NotFound` for an unknown one."""
        path = f"exec_context/{{org}}/{segment(kb_id, 'kb_id')}/context"
        return (await self._service.data("GET", path, wire.KnowledgeBaseContexts)).context_ids

    async def get_kbs_for_ctx(self, ctx_id: str) -> list[str]:
        """The ids of the knowledge bases that a context is bound to. Raises `ContextNotFound` for an unknown one."""
        path = f"exec_context/{{org}}/{segment(ctx_id, 'ctx_id')}/kb"
        return (await self._service.data("GET", path, wire.ContextKnowledgeBases)).kb_ids

    async def register_kb_binding(self, kb_id: str, context_id: str) -> Literal[True]:
        """Binds a context to a knowledge base, as inserting under it does, and returns True.

        Raises `NotFound` if either is unknown.
        """
        kb, context = segment(kb_id, "kb_id"), segment(context_id, "context_id")
        await self._service.data_done("POST", f"exec_context/{{org}}/{kb}/bind/{context}")
        return True

    async def get_name_salt(self, kb_id: str, context_id: str) -> bytes | None:
        """The salt that clients of a context keep for the names of chunks in a knowledge base; None if there is none.

        Raises `NotFound` if either is unknown.
        """
        path = _name_salt(kb_id, context_id)
        return (await self._service.data("GET", path, wire.NameSalt, max_bytes=MAX_COUNT_BYTES)).salt

    async def store_name_salt(self, kb_id: str, context_id: str, salt: bytes, replaces: bytes | None = None) -> bytes:
        """Stores a salt for the names of chunks if there is none, or if `replaces` is there, and returns what is then.

        Binds the context to the knowledge base. However many clients store a first one, each gets the same. Raises
        `NotFound` if either is unknown, and `InvalidAnswer` if nothing is stored.
        """
        body = encode(wire.StoreNameSalt(salt, replaces))
        path = _name_salt(kb_id, context_id)
        answer = await self._service.data("PUT", path, wire.NameSalt, body=body, max_bytes=MAX_COUNT_BYTES)
        if answer.salt is None:
            raise InvalidAnswer("the server stored no salt for names, expected it to keep the one that it was given")
        return answer.salt


def _name_salt(kb_id: str, context_id: str) -> str:
    return f"exec_context/{{org}}/{segment(kb_id, 'kb_id')}/name_salt/{segment(context_id, 'context_id')}"
