"""The calls for stored execution contexts. The service has their public part and their encrypted secrets."""

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
    """The calls of `XTraceIntegration` for contexts. Each call may raise `ServerError` and `NetworkError`."""

    _service: Service

    async def store_exec_context(
        self, exec_context_dict: Mapping[str, Any], context_id: str, *, name: str | None = None
    ) -> str:
        """Saves a serialised context and returns its id. Saving it again adds missing parts.

        `exec_context_dict` has the strings `type`, `pk`, `config` and optionally `sk` (encrypted), `key_provider`,
        `wrapped_key`. The first context saved under a `name` keeps it: if another one has the name, nothing is stored,
        and that one's id is returned. Raises `ContextDiffers` if a different public part is stored under the id.
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
            raise InvalidAnswer("the server says that it saved a different context than the one sent")
        return saved.context_id

    async def find_exec_context(self, name: str) -> str | None:
        """Returns the id of the context saved under a name; None if there is none."""
        path = f"exec_context_name/{{org}}/{segment(name, 'name')}"
        try:
            return (await self._service.data("GET", path, wire.SavedContext, max_bytes=MAX_COUNT_BYTES)).context_id
        except ContextNotFound:
            return None

    async def get_serialized_exec_context(self, context_id: str) -> dict[str, str]:
        """Returns a context as it was saved; its `sk` is encrypted. Raises `ContextNotFound`."""
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}"
        data = await self._service.data("GET", path, wire.ContextData, max_bytes=MAX_CONTEXT_BYTES)
        stored: dict[str, str] = msgspec.to_builtins(data)
        return stored

    async def list_exec_contexts(self, *, restorable: bool = False) -> list[str]:
        """Returns the ids of the contexts that the key may read; with `restorable` only of those that can be loaded.

        Loading chunks registers only a context's public part: such a context is listed, but its keys are only in its
        file. If the service does not say which contexts can be restored, none are returned.
        """
        asked = [("restorable", "true")] if restorable else []
        answer = await self._service.data("GET", "exec_context", wire.ContextList, parameters=asked)
        if not restorable:
            return answer.contexts
        return [] if answer.restorable is UNSET else answer.restorable

    async def describe_exec_contexts(self) -> list[wire.ListedContext]:
        """Returns the contexts that the key may read: type, creation time, and whether they can be restored.

        If the service returns only ids, type and creation time are None.
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
        """Retires a context permanently: from then on every write under it raises `ContextRetired`.

        Chunks stored under it can still be read, moved to another context and deleted. Retiring again changes nothing.
        Needs permission 7 on every knowledge base that the context is bound to. Raises `ContextNotFound`.
        """
        await self._service.data_done("POST", f"exec_context/{{org}}/{segment(context_id, 'context_id')}/retire")

    async def get_successor(self, context_id: str) -> str | None:
        """Returns the id of the context to which a rotation moves a context's chunks; None if no rotation has begun.

        Raises `ContextNotFound`.
        """
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}/successor"
        return (await self._service.data("GET", path, wire.Successor, max_bytes=MAX_COUNT_BYTES)).successor

    async def store_successor(self, context_id: str, successor: str, replaces: str | None = None) -> str:
        """Stores a context's successor if it has none, or if the stored one is `replaces`. Returns the one then stored.

        If several rotations begin at the same time, exactly one succeeds. Needs permission 3 on a knowledge base that
        the context is bound to. Raises `ContextNotFound`, and `InvalidAnswer` if nothing was stored.
        """
        body = encode(wire.StoreSuccessor(successor, replaces))
        path = f"exec_context/{{org}}/{segment(context_id, 'context_id')}/successor"
        answer = await self._service.data("PUT", path, wire.Successor, body=body, max_bytes=MAX_COUNT_BYTES)
        if answer.successor is None:
            raise InvalidAnswer("the server did not store the successor that was sent")
        return answer.successor

    async def get_ctx_for_kb(self, kb_id: str) -> list[str]:
        """Returns the ids of the contexts bound to a knowledge base. Raises `NotFound` if it is unknown."""
        path = f"exec_context/{{org}}/{segment(kb_id, 'kb_id')}/context"
        return (await self._service.data("GET", path, wire.KnowledgeBaseContexts)).context_ids

    async def get_kbs_for_ctx(self, ctx_id: str) -> list[str]:
        """Returns the ids of the knowledge bases that a context is bound to. Raises `ContextNotFound` if it is
        unknown."""
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
        """Returns the salt for the names of a context's chunks in a knowledge base; None if there is none.

        Raises `NotFound` if either is unknown.
        """
        path = _name_salt(kb_id, context_id)
        return (await self._service.data("GET", path, wire.NameSalt, max_bytes=MAX_COUNT_BYTES)).salt

    async def store_name_salt(self, kb_id: str, context_id: str, salt: bytes, replaces: bytes | None = None) -> bytes:
        """Stores a salt for names if there is none, or if the stored one is `replaces`. Returns the one then stored.

        Binds the context to the knowledge base. If several clients store a first salt, all get the same one. Raises
        `NotFound` if either is unknown, and `InvalidAnswer` if nothing was stored.
        """
        body = encode(wire.StoreNameSalt(salt, replaces))
        path = _name_salt(kb_id, context_id)
        answer = await self._service.data("PUT", path, wire.NameSalt, body=body, max_bytes=MAX_COUNT_BYTES)
        if answer.salt is None:
            raise InvalidAnswer("the server did not store the salt for names that was sent")
        return answer.salt


def _name_salt(kb_id: str, context_id: str) -> str:
    return f"exec_context/{{org}}/{segment(kb_id, 'kb_id')}/name_salt/{segment(context_id, 'context_id')}"
