"""The control plane's knowledge bases."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from xtrace_core import wire
from xtrace_server.api.audit import record_change
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import describes
from xtrace_server.http.requests import AdminCallerDep, StateDep
from xtrace_server.limits.sizes import check_names
from xtrace_server.storage import knowledge_bases
from xtrace_server.storage.knowledge_bases import KnowledgeBase

router = APIRouter(prefix="/api/v1/kbs")


@router.post("")
@requires(CONTROL)
@describes(wire.KnowledgeBase)
async def create(
    request: Request,
    state: StateDep,
    caller: AdminCallerDep,
    body: Annotated[wire.CreateKnowledgeBase, Depends(body_of(wire.CreateKnowledgeBase))],
) -> Response:
    """A new knowledge base."""
    check_names(state.settings, body)
    async with state.database.write() as connection:
        kb = await knowledge_bases.create(connection, caller.organisation_id, body.name, body.description or "")
        await record_change(connection, request, caller, "knowledge_base.create", kb.id)
    return json_answer(_shown(kb))


@router.get("")
@requires(CONTROL)
@describes(list[wire.KnowledgeBase])
async def list_all(state: StateDep, caller: AdminCallerDep) -> Response:
    """The organisation's knowledge bases."""
    async with state.database.read() as connection:
        found = await knowledge_bases.list_all(connection, caller.organisation_id)
    return json_answer([_shown(kb) for kb in found])


@router.get("/{kb_id}")
@requires(CONTROL)
@describes(wire.KnowledgeBase)
async def get(state: StateDep, caller: AdminCallerDep, kb_id: str) -> Response:
    """One knowledge base."""
    async with state.database.read() as connection:
        return json_answer(_shown(await knowledge_bases.get(connection, caller.organisation_id, kb_id)))


@router.delete("/{kb_id}")
@requires(CONTROL)
@describes(wire.DeletedKnowledgeBase)
async def delete(request: Request, state: StateDep, caller: AdminCallerDep, kb_id: str) -> Response:
    """Deletes a knowledge base with every chunk in it."""
    async with state.database.write() as connection:
        kb = await knowledge_bases.get(connection, caller.organisation_id, kb_id)
        await knowledge_bases.remove(connection, kb)
        detail = f"{kb.number_of_vectors} chunks"
        await record_change(connection, request, caller, "knowledge_base.delete", kb.id, detail)
    return json_answer(wire.DeletedKnowledgeBase(kb_id))


def _shown(kb: KnowledgeBase) -> wire.KnowledgeBase:
    return wire.KnowledgeBase(kb.id, kb.name, kb.description, kb.number_of_vectors, kb.created_at, kb.updated_at)
