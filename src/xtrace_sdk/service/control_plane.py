"""The calls of the control plane: knowledge bases, API keys, permissions. They need the admin key."""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.service.contract import Service, segment
from xtrace_sdk.service.payloads import encode


@checked_calls
class ControlPlane:
    """The control plane's share of `XTraceIntegration`. Each call raises `ServerError` and `NetworkError`."""

    _service: Service

    async def list_kbs(self) -> list[wire.KnowledgeBase]:
        """The organisation's knowledge bases, with their numbers of vectors."""
        return await self._service.control("GET", "kbs", list[wire.KnowledgeBase])

    async def get_kb(self, kb_id: str) -> wire.KnowledgeBase:
        """One knowledge base. Raises `NotFound`."""
        return await self._service.control("GET", f"kbs/{segment(kb_id, 'kb_id')}", wire.KnowledgeBase)

    async def create_kb(self, name: str, description: str = "") -> wire.KnowledgeBase:
        """The knowledge base just created.

        Not tried again once the service may have received it: after a `NetworkError`, look at `list_kbs` first.
        """
        body = encode(wire.CreateKnowledgeBase(_name(name), description))
        return await self._service.control("POST", "kbs", wire.KnowledgeBase, body=body)

    async def delete_kb(self, kb_id: str) -> None:
        """Deletes a knowledge base with every chunk in it. Raises `NotFound`."""
        await self._service.control_done("DELETE", f"kbs/{segment(kb_id, 'kb_id')}")

    async def list_api_keys(self) -> list[wire.ApiKey]:
        """The organisation's API keys that are not revoked, by hash and first five characters."""
        return await self._service.control("GET", "keys", list[wire.ApiKey])

    async def create_api_key(
        self, name: str, description: str = "", *, expires_at: datetime | None = None
    ) -> wire.CreatedApiKey:
        """A new API key, which may do nothing yet; its `secret_key` will not be shown again.

        From `expires_at` on, a time in the future with its time zone, calls with it raise `KeyExpired`; by default it
        does not expire.

        Not tried again once the service may have received it: after a `NetworkError`, look at `list_api_keys` first.
        """
        if expires_at is not None and expires_at.utcoffset() is None:
            raise InvalidArgument(
                "expires_at has no time zone, expected a time such as datetime.now(UTC) + a timedelta"
            )
        body = encode(wire.CreateApiKey(_name(name), description, expires_at))
        return await self._service.control("POST", "keys", wire.CreatedApiKey, body=body)

    async def revoke_api_key(self, key_hash: str) -> None:
        """Revokes an API key; it opens nothing from now on. Raises `NotFound`."""
        await self._service.control_done("DELETE", f"keys/{segment(key_hash, 'key_hash')}")

    async def get_key_permissions(self, key_hash: str) -> list[wire.KnowledgeBasePermission]:
        """What an API key may do, for every knowledge base where it may do anything. Raises `NotFound`."""
        path = f"keys/{segment(key_hash, 'key_hash')}/permissions"
        return await self._service.control("GET", path, list[wire.KnowledgeBasePermission])

    async def get_organisation(self) -> wire.Organisation:
        """The organisation, with its `usage` (chunks, bytes, contexts, requests) and `quotas`; None is unlimited."""
        return await self._service.control("GET", "organisation", wire.Organisation)

    async def audit_log(self, limit: int = 100, before: int | None = None) -> list[wire.AuditEntry]:
        """The newest entries of the audit log, the newest first: changes of the control plane, and denied accesses.

        At most 1,000 come at once; `before`, the id of the last entry, gives those that came before it.
        """
        parameters: list[tuple[str, str | int]] = [("limit", limit)]
        if before is not None:
            parameters.append(("before", before))
        return await self._service.control("GET", f"audit?{urlencode(parameters)}", list[wire.AuditEntry])

    async def set_key_permission(self, key_hash: str, kb_id: str, permission: int) -> None:
        """Sets what an API key may do in a knowledge base: 0 nothing, 1 read, 3 and write, 7 and delete.

        Raises `NotFound`, and `InvalidArgument` for another number.
        """
        if permission not in list(Permission):
            raise InvalidArgument(f"permission is {permission}, expected 0, 1 (read), 3 (and write) or 7 (and delete)")
        path = f"keys/{segment(key_hash, 'key_hash')}/permissions/{segment(kb_id, 'kb_id')}"
        body = encode(wire.SetPermission(Permission(permission)))
        await self._service.control_done("PUT", path, body=body)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidArgument("name is empty or no text, expected a name for people to read")
    return name
