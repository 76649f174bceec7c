"""A service that keeps notes encrypted: `uvicorn service:app`."""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from xtrace_sdk import (
    Collection,
    Embedding,
    ExecutionContext,
    PassphraseKeyProvider,
    Record,
    XTraceError,
    XTraceIntegration,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One connection and one collection for the whole life of the service."""
    keys = PassphraseKeyProvider(os.environ["XTRACE_PASSPHRASE"])
    model = Embedding("wordllama", "l2_supercat", 256, bits=512)
    context = await ExecutionContext.create_or_load(keys, "paillier_lookup", embedding=model, path="keys/service.json")
    async with XTraceIntegration(**credentials()) as xtrace:
        app.state.notes = await Collection.open(xtrace, context, "notes")
        yield


def credentials() -> dict[str, Any]:
    """The database's address and keys, as `xtrace serve` writes them."""
    found: dict[str, Any] = json.loads(Path("xtrace-data/credentials.json").read_text())
    return found


app = FastAPI(title="Notes", lifespan=lifespan)


def collection(request: Request) -> Collection:
    notes: Collection = request.app.state.notes
    return notes


Notes = Annotated[Collection, Depends(collection)]
NoteId = Annotated[str, PathParameter(min_length=1, max_length=200)]


class Note(BaseModel):
    text: str = Field(min_length=1, max_length=10_000)
    tags: list[str] = Field(default=[], max_length=20)


class Question(BaseModel):
    text: str = Field(min_length=1, max_length=1_000)
    tag: str | None = None
    count: int = Field(default=5, ge=1, le=50)


class Found(Note):
    id: str
    similarity: float


@app.put("/notes/{note_id}")
async def store(note_id: NoteId, note: Note, notes: Notes) -> Note:
    await notes.upsert([Record(note_id, note.text, {"tags": note.tags})])
    return note


@app.get("/notes/{note_id}")
async def show(note_id: NoteId, notes: Notes) -> Note:
    records = await notes.get([note_id])
    if not records:
        raise HTTPException(404, "there is no note with this id")
    return Note(text=records[0].text or "", tags=records[0].metadata["tags"])


@app.delete("/notes/{note_id}")
async def delete(note_id: NoteId, notes: Notes) -> dict[str, int]:
    return {"deleted": await notes.delete([note_id])}


@app.post("/search")
async def search(question: Question, notes: Notes) -> list[Found]:
    where = {"tags": {"$contains": question.tag}} if question.tag is not None else None
    return [
        Found(id=hit.record.id, text=hit.record.text or "", tags=hit.record.metadata["tags"], similarity=hit.similarity)
        for hit in await notes.search(question.text, question.count, where=where)
    ]


@app.exception_handler(XTraceError)
async def unavailable(_: Request, error: XTraceError) -> JSONResponse:
    logging.getLogger("uvicorn.error").error("%s", error)  # its message contains neither keys nor texts
    return JSONResponse({"detail": "the notes cannot be reached, try again later"}, 503)
