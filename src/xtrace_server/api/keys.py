"""The control plane's API keys and their permissions."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.requests import ActorDep, StateDep
from xtrace_server.operations import api_keys
from xtrace_server.storage.organisations import ApiKey

router = APIRouter(prefix="/api/v1/keys")


@router.post("")
@requires(CONTROL)
@describes(wire.CreatedApiKey)
async def create(
    state: StateDep,
    actor: ActorDep,
    body: Annotated[wire.CreateApiKey, Depends(body_of(wire.CreateApiKey))],
) -> Response:
    """Creates an API key without permissions; its secret will not be shown again. It may expire."""
    key, secret = await api_keys.create(state, actor, body.name, body.description or "", body.expires_at)
    return json_answer(wire.CreatedApiKey(_shown(key), secret))


@router.get("")
@requires(CONTROL)
@describes(list[wire.ApiKey])
async def list_all(state: StateDep, actor: ActorDep) -> Response:
    """Returns the organisation's API keys that are not revoked."""
    return json_answer([_shown(key) for key in await api_keys.list_all(state, actor)])


@router.get("/{key_hash}/permissions")
@requires(CONTROL)
@describes(list[wire.KnowledgeBasePermission])
async def permissions(state: StateDep, actor: ActorDep, key_hash: str) -> Response:
    """Returns an API key's permissions in every knowledge base where it has any."""
    found = await api_keys.permissions(state, actor, key_hash)
    return json_answer([wire.KnowledgeBasePermission(kb.id, granted) for kb, granted in found])


@router.put("/{key_hash}/permissions/{kb_id}")
@requires(CONTROL)
@describes(wire.KnowledgeBasePermission)
async def set_permission(
    state: StateDep,
    actor: ActorDep,
    key_hash: str,
    kb_id: str,
    body: Annotated[wire.SetPermission, Depends(body_of(wire.SetPermission))],
) -> Response:
    """Sets an API key's permission in a knowledge base."""
    await api_keys.set_permission(state, actor, key_hash, kb_id, body.permission)
    return json_answer(wire.KnowledgeBasePermission(kb_id, body.permission))


@router.delete("/{key_hash}")
@requires(CONTROL)
@describes(wire.RevokedKey)
async def delete(state: StateDep, actor: ActorDep, key_hash: str) -> Response:
    """Revokes an API key."""
    await api_keys.revoke(state, actor, key_hash)
    return json_answer(wire.RevokedKey(key_hash))


@router.patch("/{key_hash}")
@requires(CONTROL)
@describes(wire.ApiKey)
async def change(
    state: StateDep,
    actor: ActorDep,
    key_hash: str,
    body: Annotated[wire.ChangeApiKey, Depends(body_of(wire.ChangeApiKey))],
) -> Response:
    """Changes an API key's name, description or expiry. Omitted fields stay; with `expiresAt` null, it never
    expires."""
    key, _ = await api_keys.change(state, actor, key_hash, body.name, body.description, body.expires_at)
    return json_answer(_shown(key))


@router.patch("/{key_hash}/status/revoke")
@requires(CONTROL)
@describes(wire.RevokedKey)
async def revoke(state: StateDep, actor: ActorDep, key_hash: str) -> Response:
    """Revokes an API key."""
    await api_keys.revoke(state, actor, key_hash)
    return json_answer(wire.RevokedKey(key_hash))


def _shown(key: ApiKey) -> wire.ApiKey:
    return wire.ApiKey(
        key.hash, key.first_n, key.name, key.description, key.created_at, key.last_used_at, key.expires_at
    )
