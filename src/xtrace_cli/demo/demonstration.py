"""The main job from nothing. A private server, real text, encrypted, stored, searched, read again."""

import asyncio
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from xtrace_cli.documents.reading import Document, FolderDocuments, chunks_of, python_reference, source_and_passage
from xtrace_cli.options.passphrase import read_passphrase
from xtrace_cli.output import note, say
from xtrace_cli.server_process import local_server
from xtrace_core.files import write_file
from xtrace_sdk.errors import InaccessibleFile
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader, LoadSummary
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_server.credentials import Credentials
from xtrace_server.storage.sqlite.stored_bytes import stored_chunk

BITS = 512
EMBEDDING = Embedding("wordllama", "l2_supercat", 256, bits=BITS)
ANSWERS = 2
REFERENCE_QUESTIONS = (
    "Which operators bind more tightly than others?",
    "How does a generator hand a value back to its caller?",
    "How do I format a number with two decimal places?",
)
_SHOWN_CHARACTERS = 240


def demonstrate(folder: Path | None, data: Path, ask: Sequence[str] | None) -> None:
    """The whole demonstration: keys, a server, documents (by default Python's reference), questions and answers.

    Raises `XTraceError`; what is stored by then is found by the next run.
    """
    documents = python_reference() if folder is None else FolderDocuments(folder, note)
    questions = ask or (REFERENCE_QUESTIONS if folder is None else _first_lines(documents))
    context = _own_context(data / "client")
    with local_server(data / "server") as server:
        say(f"A private server runs at {server.api_url}")
        say(f"  the server's files:  {data / 'server'}   (ciphertexts; its operator sees these)")
        say(f"  the client's files:  {data / 'client'}   (passphrase and keys; they never leave this side)")
        corpus = "Python reference" if folder is None else str(folder.resolve())
        asyncio.run(_load_and_ask(server, context, documents, questions, data, corpus))


def _own_context(folder: Path) -> ExecutionContext:
    """The execution context of the client's folder, made on the first run."""
    saved, passphrase = folder / "context.json", folder / "passphrase"
    if saved.exists():
        return ExecutionContext.load_from_disk(read_passphrase(passphrase), saved)
    say("Making keys: a Paillier key pair and an AES key, protected by a random passphrase")
    provider = PassphraseKeyProvider(_make_passphrase(passphrase))
    return ExecutionContext.create(
        key_provider=provider,
        homomorphic_client_type="paillier_lookup",
        key_len=1024,
        embedding=EMBEDDING,
        path=saved,
    )


def _make_passphrase(path: Path) -> str:
    passphrase = secrets.token_urlsafe(32)
    try:
        # One that is there is of a first run that was cut off: nothing was encrypted with it.
        write_file(path, f"{passphrase}\n".encode())
    except OSError as error:
        raise InaccessibleFile(f"the passphrase cannot be written to {path}: {error.strerror}") from None
    return passphrase


async def _load_and_ask(
    server: Credentials,
    context: ExecutionContext,
    documents: Iterable[Document],
    questions: Sequence[str],
    data: Path,
    corpus: str,
) -> None:
    async with XTraceIntegration(
        org_id=server.org_id,
        api_key=server.api_key,
        api_url=server.api_url,
        admin_key=server.admin_key,
        admin_api_url=f"{server.api_url}/api",
    ) as xtrace:
        kb_id = await _knowledge_base(xtrace, f"demo {context.pseudonym('demo corpus', corpus)[:8]}")
        await _load(DataLoader(context, xtrace), documents, kb_id)
        answers = []
        for question in questions:
            answers += await _answer(Retriever(context, xtrace), question, kb_id)
    if answers:
        _show_stored(data / "server" / "xtrace.db", kb_id, answers[0])


async def _knowledge_base(xtrace: XTraceIntegration, name: str) -> str:
    for kb in await xtrace.list_kbs():
        if kb.name == name:
            return kb.id
    return (await xtrace.create_kb(name)).id


async def _load(loader: DataLoader, documents: Iterable[Document], kb_id: str) -> None:
    read, so_far = 0, LoadSummary()

    def counted() -> Iterator[Document]:
        nonlocal read
        for document in documents:
            read += 1
            yield document

    def keep(summary: LoadSummary) -> None:
        nonlocal so_far
        so_far = summary

    started = time.perf_counter()
    try:
        summary = await loader.load(chunks_of(counted()), EMBEDDING, kb_id, on_progress=keep)
    except BaseException:  # Ctrl-C too
        note(f"{so_far.stored + so_far.known} chunks are stored: run the same command again to go on")
        raise
    elapsed = time.perf_counter() - started
    # What could not be read this time was perhaps loaded before, and is not outdated.
    is_whole = not (isinstance(documents, FolderDocuments) and documents.passed_over)
    removed = await loader.delete_chunks(await loader.superseded(summary, kb_id), kb_id) if is_whole else 0
    say(
        f"\n{read} documents, {len(summary.base_names)} chunks: {summary.stored} embedded, encrypted and stored in "
        f"{elapsed:.1f} s, {summary.known} were there already"
        + (f"; outdated and deleted: {removed}" if removed else "")
    )


async def _answer(retriever: Retriever, question: str, kb_id: str) -> list[dict[str, Any]]:
    vector = await EMBEDDING.bin_embed_query(question)
    started = time.perf_counter()
    ids, distances = await retriever.nn_search_for_ids(vector, k=ANSWERS, kb_id=kb_id, include_scores=True)
    searched = time.perf_counter()
    chunks = await retriever.retrieve_and_decrypt(ids, kb_id=kb_id)
    fetched = time.perf_counter()
    say(f"\nQ: {question}")
    say(
        f"   encrypted search {1000 * (searched - started):.0f} ms, "
        f"fetching and decrypting {len(chunks)} chunks {1000 * (fetched - searched):.0f} ms"
    )
    distance_of = dict(zip(ids, distances, strict=True))
    for chunk in chunks:
        source, passage = source_and_passage(chunk["chunk_content"])
        say(f"   {source} (distance {distance_of[chunk['chunk_id']]} of {BITS})")
        say(f"      {_shortened(passage)}")
    return chunks


def _show_stored(database: Path, kb_id: str, chunk: dict[str, Any]) -> None:
    stored = stored_chunk(database, kb_id, chunk["chunk_id"])
    say(f"\nWhat the server's database holds of the first answer (chunk {chunk['chunk_id']} in {database}):")
    say(f"   content     {stored.content[:64]}…  ({len(stored.content)} characters, AES-256-GCM)")
    say(f"   vector      {stored.ciphertext[:32].hex()}…  ({len(stored.ciphertext)} bytes, Paillier)")
    say(f"   name        {stored.name}  (keyed hash)")
    say(f"   metadata    {', '.join(filter(None, stored.tags)) or 'none'}")


def _first_lines(documents: Iterable[Document]) -> list[str]:
    """A question for each of the first documents if none was asked: its own first line."""
    lines = (document.text.strip().splitlines()[0].lstrip("# ") for document in islice(documents, 3))
    return [line[:200] for line in lines if line]


def _shortened(text: str) -> str:
    # Without the rules under headings and around tables.
    line = " ".join(word for word in text.split() if len(word) < 3 or not set(word) <= set("*=-+|~"))
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS] + "…"
