"""The control plane's knowledge bases."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from msgspec import UNSET

from xtrace_core import wire
from xtrace_server.auth.guard import CONTROL, requires
from xtrace_server.http.answers import json_answer
from xtrace_server.http.bodies import body_of
from xtrace_server.http.described import Parameter, describes
from xtrace_server.http.requests import ActorDep, StateDep, query_choice
from xtrace_server.operations import knowledge_bases
from xtrace_server.storage.knowledge_bases import KnowledgeBase

router = APIRouter(prefix="/api/v1/kbs")


@router.post("")
@requires(CONTROL)
@describes(wire.KnowledgeBase)
async def create(
    state: StateDep,
    actor: ActorDep,
    body: Annotated[wire.CreateKnowledgeBase, Depends(body_of(wire.CreateKnowledgeBase))],
) -> Response:
    """Creates a knowledge base."""
    return json_answer(_shown(await knowledge_bases.create(state, actor, body.name, body.description or "")))


@router.get("")
@requires(CONTROL)
@describes(list[wire.KnowledgeBase], Parameter("include", {"type": "string", "enum": ["deleting"]}))
async def list_all(request: Request, state: StateDep, actor: ActorDep) -> Response:
    """Returns the organisation's knowledge bases; `include=deleting` adds those whose chunks are still being
    deleted."""
    deleting = query_choice(request, "include", ("deleting",)) == "deleting"
    return json_answer([_shown(kb) for kb in await knowledge_bases.list_all(state, actor, deleting=deleting)])


@router.get("/{kb_id}")
@requires(CONTROL)
@describes(wire.KnowledgeBase)
async def get(state: StateDep, actor: ActorDep, kb_id: str) -> Response:
    """Returns one knowledge base."""
    return json_answer(_shown(await knowledge_bases.get(state, actor, kb_id)))


@router.delete("/{kb_id}")
@requires(CONTROL)
@describes(wire.DeletedKnowledgeBase)
async def delete(state: StateDep, actor: ActorDep, kb_id: str) -> Response:
    """Deletes a knowledge base with all its chunks."""
    await knowledge_bases.delete(state, actor, kb_id)
    return json_answer(wire.DeletedKnowledgeBase(kb_id))


def _shown(kb: KnowledgeBase) -> wire.KnowledgeBase:
    deleted_at = UNSET if kb.deleted_at is None else kb.deleted_at
    return wire.KnowledgeBase(
        kb.id, kb.name, kb.description, kb.number_of_vectors, kb.created_at, kb.updated_at, deleted_at
    )
