"""The calls of the control plane: knowledge bases, API keys, permissions. They need the admin key."""

from datetime import datetime
from types import EllipsisType
from typing import Any
from urllib.parse import urlencode

from msgspec import UNSET

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_sdk.arguments import checked_calls
from xtrace_sdk.errors import InvalidArgument
from xtrace_sdk.service.contract import Service, segment
from xtrace_sdk.service.payloads import encode


@checked_calls
class ControlPlane:
    """The calls of `XTraceIntegration` to the control plane. Each call may raise `ServerError` and `NetworkError`."""

    _service: Service

    async def list_kbs(self) -> list[wire.KnowledgeBase]:
        """Returns the organisation's knowledge bases, with their numbers of vectors."""
        return await self._service.control("GET", "kbs", list[wire.KnowledgeBase])

    async def get_kb(self, kb_id: str) -> wire.KnowledgeBase:
        """Returns one knowledge base. Raises `NotFound`."""
        return await self._service.control("GET", f"kbs/{segment(kb_id, 'kb_id')}", wire.KnowledgeBase)

    async def create_kb(self, name: str, description: str = "") -> wire.KnowledgeBase:
        """Creates a knowledge base, and returns it.

        Not retried if the service may have received the request: after a `NetworkError`, check `list_kbs` first.
        """
        body = encode(wire.CreateKnowledgeBase(_name(name), description))
        return await self._service.control("POST", "kbs", wire.KnowledgeBase, body=body)

    async def delete_kb(self, kb_id: str) -> None:
        """Deletes a knowledge base with all its chunks. Raises `NotFound`."""
        await self._service.control_done("DELETE", f"kbs/{segment(kb_id, 'kb_id')}")

    async def list_api_keys(self) -> list[wire.ApiKey]:
        """Returns the organisation's API keys that are not revoked, by hash and first five characters."""
        return await self._service.control("GET", "keys", list[wire.ApiKey])

    async def create_api_key(
        self, name: str, description: str = "", *, expires_at: datetime | None = None
    ) -> wire.CreatedApiKey:
        """Creates an API key without permissions, and returns it; its `secret_key` will not be shown again.

        From `expires_at` on, a time in the future with a time zone, calls with the key raise `KeyExpired`. By default
        it does not expire.

        Not retried if the service may have received the request: after a `NetworkError`, check `list_api_keys` first.
        """
        body = encode(wire.CreateApiKey(_name(name), description, _with_zone(expires_at)))
        return await self._service.control("POST", "keys", wire.CreatedApiKey, body=body)

    async def update_api_key(
        self,
        key_hash: str,
        *,
        name: str | EllipsisType = ...,
        description: str | EllipsisType = ...,
        expires_at: datetime | EllipsisType | None = ...,
    ) -> wire.ApiKey:
        """Changes only the given parts of an API key, and returns the key.

        Calls with the key raise `KeyExpired` from the new `expires_at` on, and work again if it had expired before.
        None means that it does not expire. Raises `NotFound`, and `InvalidRequest` for a time that has passed.
        """
        change = wire.ChangeApiKey(
            UNSET if name is ... else _name(name),
            UNSET if description is ... else description,
            UNSET if expires_at is ... else _with_zone(expires_at),
        )
        path = f"keys/{segment(key_hash, 'key_hash')}"
        return await self._service.control("PATCH", path, wire.ApiKey, body=encode(change))

    async def revoke_api_key(self, key_hash: str) -> None:
        """Revokes an API key, which stops working at once. Raises `NotFound`."""
        await self._service.control_done("DELETE", f"keys/{segment(key_hash, 'key_hash')}")

    async def get_key_permissions(self, key_hash: str) -> list[wire.KnowledgeBasePermission]:
        """Returns an API key's permissions, for every knowledge base where it has any. Raises `NotFound`."""
        path = f"keys/{segment(key_hash, 'key_hash')}/permissions"
        return await self._service.control("GET", path, list[wire.KnowledgeBasePermission])

    async def get_organisation(self) -> wire.Organisation:
        """Returns the organisation with its `usage` (chunks, bytes, contexts, requests) and `quotas`; None means
        unlimited."""
        return await self._service.control("GET", "organisation", wire.Organisation)

    async def audit_log(self, limit: int = 100, before: int | None = None) -> list[wire.AuditEntry]:
        """Returns the latest entries of the audit log, newest first: changes in the control plane, and denied accesses.

        Returns at most 1,000 entries; pass the id of the last one as `before` to get older ones.
        """
        parameters: list[tuple[str, str | int]] = [("limit", limit)]
        if before is not None:
            parameters.append(("before", before))
        return await self._service.control("GET", f"audit?{urlencode(parameters)}", list[wire.AuditEntry])

    async def set_key_permission(self, key_hash: str, kb_id: str, permission: int) -> None:
        """Sets an API key's permission in a knowledge base: 0 none, 1 read, 3 read and write, 7 also delete.

        Raises `NotFound`, and `InvalidArgument` for any other number.
        """
        if permission not in list(Permission):
            raise InvalidArgument(
                f"permission is {permission}, expected 0 (none), 1 (read), 3 (read and write) or "
                f"7 (read, write and delete)"
            )
        path = f"keys/{segment(key_hash, 'key_hash')}/permissions/{segment(kb_id, 'kb_id')}"
        body = encode(wire.SetPermission(Permission(permission)))
        await self._service.control_done("PUT", path, body=body)


def _with_zone(moment: datetime | None) -> datetime | None:
    if moment is not None and moment.utcoffset() is None:
        raise InvalidArgument(
            "expires_at has no time zone, expected a time such as datetime.now(UTC) + timedelta(days=90)"
        )
    return moment


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidArgument("name is empty or not a string, expected a readable name")
    return name
