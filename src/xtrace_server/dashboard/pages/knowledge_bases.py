"""Knowledge bases: the list, a single one with its chunks, renaming and deleting."""

from typing import Any, Final, cast

from fastapi import APIRouter, Request, Response

from xtrace_core.wire import TAGS
from xtrace_server.auth.guard import SIGNED_IN, requires
from xtrace_server.dashboard import filter_form, parameters
from xtrace_server.dashboard.confirming import to_type
from xtrace_server.dashboard.failures import PageRoute
from xtrace_server.dashboard.forms import caller_of, read_form, read_once
from xtrace_server.dashboard.rendering import query, seen_other, signed_in_page
from xtrace_server.dashboard.words import sentence
from xtrace_server.errors import ChunksNotFound, FilterRefused, LimitExceeded
from xtrace_server.http.requests import state_of
from xtrace_server.operations import browsing, knowledge_bases
from xtrace_server.operations.browsing import PAGE_CHUNKS, Browse, BrowsedChunk
from xtrace_server.operations.knowledge_bases import PAGE_KNOWLEDGE_BASES, Described
from xtrace_server.operations.paging import Listed

router = APIRouter(prefix="/knowledge-bases", route_class=PageRoute, include_in_schema=False)

_COLUMNS: Final = ("updated_at", "name", "number_of_vectors", "stored_bytes", "created_at")
_CHUNK_COLUMNS: Final = ("chunk_id", *TAGS, "updated_at", "created_at")
_DONE: Final = {"renamed": "Knowledge base renamed. Its ID stays the same."}
_LIST_DONE: Final = {
    "deleted": "Knowledge base deleted. Its chunks are being removed.",
    "twice": "The form was sent twice. The knowledge base was created once.",
}


@router.get("")
@requires(SIGNED_IN)
async def list_all(request: Request) -> Response:
    """A page of the list."""
    return await _list(request)


@router.post("")
@requires(SIGNED_IN)
async def create(request: Request) -> Response:
    """Creates a knowledge base and shows it."""
    form, is_first = await read_once(request)
    if not is_first:
        return seen_other("/knowledge-bases" + query(done="twice"))
    name, description = form.text("name").strip(), form.text("description").strip()
    problem = "" if name else "Enter a name of 1 to 65,536 characters."
    if not problem:
        try:
            kb = await knowledge_bases.create(state_of(request), caller_of(request).actor, name, description)
        except LimitExceeded as error:
            problem = sentence(error.detail)
        else:
            return seen_other(f"/knowledge-bases/{kb.id}")
    return await _list(request, 422, problem, description)


@router.get("/{kb_id}")
@requires(SIGNED_IN)
async def show(request: Request, kb_id: str) -> Response:
    """One knowledge base with a page of its chunks, and the selected chunk."""
    return await _show(request, kb_id)


@router.post("/{kb_id}/rename")
@requires(SIGNED_IN)
async def rename(request: Request, kb_id: str) -> Response:
    """Renames a knowledge base."""
    form = await read_form(request)
    name, description = form.text("name").strip(), form.text("description").strip()
    problem = "" if name else "Enter a name of 1 to 65,536 characters."
    if not problem:
        try:
            await knowledge_bases.rename(state_of(request), caller_of(request).actor, kb_id, name, description)
        except LimitExceeded as error:
            problem = sentence(error.detail)
        else:
            return seen_other(f"/knowledge-bases/{kb_id}" + query(done="renamed"))
    return await _show(request, kb_id, 422, problem)


@router.get("/{kb_id}/delete")
@requires(SIGNED_IN)
async def confirm_deletion(request: Request, kb_id: str) -> Response:
    """What deletion erases, and the form that confirms it."""
    found = await knowledge_bases.describe(state_of(request), caller_of(request).actor, kb_id)
    return await _deletion(request, found)


@router.post("/{kb_id}/delete")
@requires(SIGNED_IN)
async def delete(request: Request, kb_id: str) -> Response:
    """Deletes a knowledge base once its name was typed."""
    form = await read_form(request)
    state, actor = state_of(request), caller_of(request).actor
    found = await knowledge_bases.describe(state, actor, kb_id)
    if form.text("confirm").strip() != to_type(found.kb.name, found.kb.id):
        return await _deletion(request, found, 422, "The text does not match. Nothing was deleted.")
    await knowledge_bases.delete(state, actor, kb_id)
    return seen_other("/knowledge-bases" + query(done="deleted"))


async def _list(request: Request, status: int = 200, problem: str = "", description: str = "") -> Response:
    find = parameters.text(request, "find").strip()
    sorting = parameters.sorting(request, _COLUMNS, _COLUMNS[:1] + _COLUMNS[2:])
    found = await knowledge_bases.list_page(
        state_of(request),
        caller_of(request).actor,
        find,
        cast("Any", sorting.by),
        descending=sorting.descending,
        start=parameters.start(request),
    )
    return await signed_in_page(
        request,
        "knowledge-bases.html",
        status=status,
        found=found.rows,
        find=find,
        sorting=sorting,
        pages=parameters.turning(request, found, [one.kb.id for one in found.rows], PAGE_KNOWLEDGE_BASES),
        problem=problem,
        description=description,
        done=_LIST_DONE.get(parameters.text(request, "done"), ""),
    )


async def _show(request: Request, kb_id: str, status: int = 200, rename_problem: str = "") -> Response:
    state, actor = state_of(request), caller_of(request).actor
    described = await knowledge_bases.describe(state, actor, kb_id)
    asked = {name: parameters.text(request, name) for name in request.query_params}
    form = filter_form.read(asked)
    sorting = parameters.sorting(request, _CHUNK_COLUMNS, ("chunk_id", "updated_at", "created_at"))
    context_id = parameters.choice(request, "context", tuple(described.context_ids) or ("",))
    browsed: Listed[BrowsedChunk] = Listed([], [], 0, has_more=False, is_first=True)
    problem = ""
    if context_id:
        wanted = Browse(
            kb_id=kb_id,
            context_id=context_id,
            filter=form.text,
            sort_by=sorting.by,
            descending=sorting.descending,
            start=parameters.start(request),
        )
        try:
            browsed = await browsing.browse(state, actor, wanted)
        except (FilterRefused, LimitExceeded) as error:
            problem = sentence(error.detail)
    chunk = await _chunk(request, kb_id)
    return await signed_in_page(
        request,
        "knowledge-base.html",
        status=status,
        kb=described.kb,
        described=described,
        context_id=context_id,
        form=form,
        filter_problem=problem,
        rename_problem=rename_problem,
        sorting=sorting,
        found=browsed.rows,
        pages=parameters.turning(request, browsed, [one.chunk.chunk_id for one in browsed.rows], PAGE_CHUNKS),
        place=parameters.place(request),
        chunk=chunk,
        chunk_id=parameters.text(request, "chunk")[:20],
        kept={"context": asked.get("context", ""), "filter": form.text},
        fields=filter_form.FIELDS,
        tags=TAGS,
        columns=_columns(browsed.rows, sorting.by),
        done=_DONE.get(parameters.text(request, "done"), ""),
    )


def _columns(rows: list[BrowsedChunk], sorted_by: str) -> list[str]:
    """Returns the tags that have a column: those of the page's chunks, so that the table stays narrow."""
    return [tag for tag in TAGS if tag == sorted_by or any(getattr(row.chunk.meta_data, tag) for row in rows)]


async def _chunk(request: Request, kb_id: str) -> browsing.StoredParts | None:
    """Returns the chunk that the address selects; None if it does not exist."""
    chunk_id = parameters.number(request, "chunk", 0, 2**63 - 1)
    if not chunk_id:
        return None
    try:
        return await browsing.look_at(state_of(request), caller_of(request).actor, kb_id, chunk_id)
    except ChunksNotFound:
        return None


async def _deletion(request: Request, found: Described, status: int = 200, problem: str = "") -> Response:
    values = {"kb": found.kb, "described": found, "to_type": to_type(found.kb.name, found.kb.id), "problem": problem}
    return await signed_in_page(request, "knowledge-base-delete.html", status=status, **values)
