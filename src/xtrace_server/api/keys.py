"""The control plane's API keys and their permissions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_core.permissions import Permission
from xtrace_server.api.audit import record_change
from xtrace_server.auth.guard import CONTROL, AdminCaller, requires
from xtrace_server.auth.issuing import new_api_key
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.requests import AdminCallerDep, StateDep
from xtrace_server.limits.sizes import check_names
from xtrace_server.state import ServerState
from xtrace_server.storage import knowledge_bases, organisations
from xtrace_server.storage.organisations import ApiKey

router = APIRouter(prefix="/api/v1/keys")


@router.post("")
@requires(CONTROL)
@describes(wire.CreatedApiKey)
async def create(
    request: Request,
    state: StateDep,
    caller: AdminCallerDep,
    body: Annotated[wire.CreateApiKey, Depends(body_of(wire.CreateApiKey))],
) -> Response:
    """A new API key, without any permission; its secret is shown this once."""
    check_names(state.settings, body)
    async with state.database.write() as connection:
        name, description = body.name, body.description or ""
        key, secret = await new_api_key(connection, caller.organisation_id, name, description, Permission.NONE)
        await record_change(connection, request, caller, "api_key.create", key.hash)
    return json_answer(wire.CreatedApiKey(_shown(key), secret))


@router.get("")
@requires(CONTROL)
@describes(list[wire.ApiKey])
async def list_all(state: StateDep, caller: AdminCallerDep) -> Response:
    """The organisation's API keys that are not revoked."""
    async with state.database.read() as connection:
        found = await organisations.list_api_keys(connection, caller.organisation_id)
    return json_answer([_shown(key) for key in found])


@router.get("/{key_hash}/permissions")
@requires(CONTROL)
@describes(list[wire.KnowledgeBasePermission])
async def permissions(state: StateDep, caller: AdminCallerDep, key_hash: str) -> Response:
    """What an API key may do, for every knowledge base where it may do anything."""
    async with state.database.read() as connection:
        key = await organisations.get_api_key(connection, caller.organisation_id, key_hash)
        found = await organisations.permissions(connection, key)
    return json_answer([wire.KnowledgeBasePermission(kb.id, granted) for kb, granted in found if granted])


@router.put("/{key_hash}/permissions/{kb_id}")
@requires(CONTROL)
@describes(wire.KnowledgeBasePermission)
async def set_permission(
    request: Request,
    state: StateDep,
    caller: AdminCallerDep,
    key_hash: str,
    kb_id: str,
    body: Annotated[wire.SetPermission, Depends(body_of(wire.SetPermission))],
) -> Response:
    """Sets what an API key may do in a knowledge base."""
    async with state.database.write() as connection:
        key = await organisations.get_api_key(connection, caller.organisation_id, key_hash)
        kb = await knowledge_bases.get(connection, caller.organisation_id, kb_id)
        await organisations.set_permission(connection, key, kb, body.permission)
        detail = f"permission {body.permission} in {kb.id}"
        await record_change(connection, request, caller, "api_key.permission", key.hash, detail)
    return json_answer(wire.KnowledgeBasePermission(kb_id, body.permission))


@router.delete("/{key_hash}")
@requires(CONTROL)
@describes(wire.RevokedKey)
async def delete(request: Request, state: StateDep, caller: AdminCallerDep, key_hash: str) -> Response:
    """Revokes an API key."""
    return await _revoke(request, state, caller, key_hash)


@router.patch("/{key_hash}/status/revoke")
@requires(CONTROL)
@describes(wire.RevokedKey)
async def revoke(request: Request, state: StateDep, caller: AdminCallerDep, key_hash: str) -> Response:
    """Revokes an API key."""
    return await _revoke(request, state, caller, key_hash)


async def _revoke(request: Request, state: ServerState, caller: AdminCaller, key_hash: str) -> Response:
    async with state.database.write() as connection:
        await organisations.revoke_api_key(connection, caller.organisation_id, key_hash)
        await record_change(connection, request, caller, "api_key.revoke", key_hash)
    return json_answer(wire.RevokedKey(key_hash))


def _shown(key: ApiKey) -> wire.ApiKey:
    return wire.ApiKey(key.hash, key.first_n, key.name, key.description, key.created_at, key.last_used_at)
