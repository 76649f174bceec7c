"""The operator's routes: organisations, their admin keys, the operator key itself, and the audit log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_server.api.audit import PAGE, page_of
from xtrace_server.auth.guard import OPERATOR, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import OperatorDep, StateDep, query_optional
from xtrace_server.operations import admin_keys, audit, operator_key, organisations
from xtrace_server.operations.writing import freeing_space
from xtrace_server.storage.database import THE_SERVICE
from xtrace_server.storage.organisations import AdminKey

router = APIRouter(prefix="/api/v1/operator")


@router.post("/organisations")
@requires(OPERATOR)
@describes(wire.CreatedOrganisation)
async def create(
    state: StateDep,
    operator: OperatorDep,
    body: Annotated[wire.CreateOrganisation, Depends(body_of(wire.CreateOrganisation))],
) -> Response:
    """Creates an organisation with an admin key and an API key, which will not be shown again."""
    new = await organisations.create(state.database, operator, body.name)
    shown = await organisations.get_shown(state.database, new.organisation.id)
    return json_answer(wire.CreatedOrganisation(shown, new.admin_key, new.api_key))


@router.get("/organisations")
@requires(OPERATOR)
@describes(list[wire.Organisation])
async def list_all(state: StateDep) -> Response:
    """Returns the organisations with their usage and quotas, oldest first, including those being deleted."""
    await state.guard.request_counts.write()
    return json_answer(await organisations.list_shown(state.database))


@router.get("/organisations/{organisation_id}")
@requires(OPERATOR)
@describes(wire.Organisation)
async def get(state: StateDep, organisation_id: str) -> Response:
    """Returns one organisation with its usage and quotas."""
    await state.guard.request_counts.write()
    return json_answer(await organisations.get_shown(state.database, organisation_id))


@router.delete("/organisations/{organisation_id}")
@requires(OPERATOR)
@describes(wire.DeletedOrganisation)
async def delete(state: StateDep, operator: OperatorDep, organisation_id: str) -> Response:
    """Deletes an organisation with all its data, except its audit log."""
    await freeing_space(state, lambda: organisations.delete(state.database, operator, organisation_id))
    return json_answer(wire.DeletedOrganisation(organisation_id))


@router.patch("/organisations/{organisation_id}/quotas")
@requires(OPERATOR)
@describes(wire.Organisation)
async def set_quotas(
    state: StateDep,
    operator: OperatorDep,
    organisation_id: str,
    body: Annotated[wire.SetQuotas, Depends(body_of(wire.SetQuotas))],
) -> Response:
    """Changes quotas of an organisation; null makes one unlimited. Existing data stays, even if it exceeds them."""
    return json_answer(await organisations.set_quotas(state.database, operator, organisation_id, body))


@router.patch("/organisations/{organisation_id}/status/suspend")
@requires(OPERATOR)
@describes(wire.Organisation)
async def suspend(state: StateDep, operator: OperatorDep, organisation_id: str) -> Response:
    """Suspends an organisation: every call with one of its keys is rejected. Deletes nothing."""
    return json_answer(await organisations.suspend(state.database, operator, organisation_id))


@router.patch("/organisations/{organisation_id}/status/resume")
@requires(OPERATOR)
@describes(wire.Organisation)
async def resume(state: StateDep, operator: OperatorDep, organisation_id: str) -> Response:
    """Ends the suspension of an organisation."""
    return json_answer(await organisations.resume(state.database, operator, organisation_id))


@router.get("/organisations/{organisation_id}/admin-keys")
@requires(OPERATOR)
@describes(list[wire.AdminKey])
async def list_admin_keys(state: StateDep, organisation_id: str) -> Response:
    """Returns the hashes of an organisation's admin keys."""
    return json_answer([_shown_key(key) for key in await admin_keys.list_all(state.database, organisation_id)])


@router.post("/organisations/{organisation_id}/admin-keys")
@requires(OPERATOR)
@describes(wire.CreatedAdminKey)
async def create_admin_key(state: StateDep, operator: OperatorDep, organisation_id: str) -> Response:
    """Creates another admin key for an organisation, which will not be shown again; the others keep working."""
    key, secret = await admin_keys.create(state.database, operator, organisation_id)
    return json_answer(wire.CreatedAdminKey(_shown_key(key), secret))


@router.post("/organisations/{organisation_id}/admin-keys/rotate")
@requires(OPERATOR)
@describes(wire.CreatedAdminKey)
async def rotate_admin_keys(state: StateDep, operator: OperatorDep, organisation_id: str) -> Response:
    """Creates an admin key for an organisation, which will not be shown again, and revokes all others."""
    key, secret = await admin_keys.rotate(state.database, operator, organisation_id)
    return json_answer(wire.CreatedAdminKey(_shown_key(key), secret))


@router.delete("/organisations/{organisation_id}/admin-keys/{key_hash}")
@requires(OPERATOR)
@describes(wire.RevokedAdminKey)
async def revoke_admin_key(state: StateDep, operator: OperatorDep, organisation_id: str, key_hash: str) -> Response:
    """Revokes an admin key. Without any, the organisation's API keys keep working, but its keys cannot be changed."""
    left = await admin_keys.revoke(state.database, operator, organisation_id, key_hash)
    return json_answer(wire.RevokedAdminKey(key_hash, left))


@router.post("/key/rotate")
@requires(OPERATOR)
@describes(wire.CreatedOperatorKey)
async def rotate_key(state: StateDep, operator: OperatorDep) -> Response:
    """Replaces the operator key; the new one will not be shown again."""
    return json_answer(wire.CreatedOperatorKey(await operator_key.rotate(state.database, operator)))


@router.get("/audit")
@requires(OPERATOR)
@describes(
    list[wire.AuditEntry], Parameter("organisation_id", {"type": "string", "minLength": 1}), *PAGE, statuses=(404,)
)
async def newest(request: Request, state: StateDep) -> Response:
    """Returns the newest entries of the server's own audit log, or of an organisation's, newest first."""
    limit, before = page_of(request)
    await state.denials.write()
    of = query_optional(request, "organisation_id") or THE_SERVICE
    return json_answer([audit.shown(entry) for entry in await audit.newest_of(state.database, of, before, limit)])


def _shown_key(key: AdminKey) -> wire.AdminKey:
    return wire.AdminKey(key.hash, key.created_at)
