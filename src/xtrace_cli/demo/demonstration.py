"""Shows the usual steps from scratch: start a private server, then encrypt, store and search real text."""

import asyncio
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

from xtrace_cli import private_server
from xtrace_cli.answers.hits import print_hits, stages_line
from xtrace_cli.demo.corpus import python_reference
from xtrace_cli.documents.loading import Loading, Wanted
from xtrace_cli.documents.records import FILTERABLE
from xtrace_cli.documents.summary import Summary
from xtrace_cli.options.passphrase import read_passphrase
from xtrace_cli.options.settings import DOTENV, Setting, Source
from xtrace_cli.options.trust import allow_start
from xtrace_cli.output import note, say
from xtrace_cli.server_process import local_server
from xtrace_cli.workspace import MODEL
from xtrace_core.files import write_file
from xtrace_sdk.collection.collection import Collection
from xtrace_sdk.errors import InaccessibleFile, InvalidDocument
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.stages import measured_stages
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.keys.provider import PassphraseKeyProvider
from xtrace_server.credentials import Credentials
from xtrace_server.storage.sqlite.stored_bytes import stored_chunk

ANSWERS = 2
REFERENCE_QUESTIONS = (
    "Which operators bind more tightly than others?",
    "How does a generator hand a value back to its caller?",
    "How do I format a number with two decimal places?",
)


def demonstrate(folder: Path | None, data: Path, ask: Sequence[str] | None) -> None:
    """The whole demonstration: keys, a server, documents (by default Python's reference), questions and answers.

    Raises `XTraceError`; the next run, and the commands that it suggests, find what was stored by then.
    """
    if folder is not None and not folder.is_dir():
        raise InaccessibleFile(f"{folder} is not a folder: name a folder with documents")
    documents = python_reference(data / "python-reference") if folder is None else folder.resolve()
    context = _own_context(data / "client")
    # The name reveals nothing about the folder to the server.
    name = f"demo-{context.pseudonym('demo corpus', str(documents))[:8]}"
    with _server(data / "server") as server:
        say(f"A private server runs at {server.api_url}")
        say(f"  the server's files:  {data / 'server'}   (ciphertexts; its operator sees these)")
        say(f"  the client's files:  {data / 'client'}   (passphrase and keys; they never leave this side)")
        questions = ask or (REFERENCE_QUESTIONS if folder is None else ())
        asyncio.run(_load_and_ask(server, context, documents, name, questions, data))
    _write_settings(data, name)
    _say_how_to_go_on(data, questions[0] if questions else "a question")


@contextmanager
def _server(data: Path) -> Iterator[Credentials]:
    """A server on the data folder: one that an earlier command started, or a new one that stops with the block."""
    if private_server.process_id(data) is not None:
        yield private_server.ensure_running(data)
        return
    with local_server(data) as credentials:
        yield credentials


def _own_context(folder: Path) -> ExecutionContext:
    """Returns the execution context of the client's folder, created on the first run."""
    saved, passphrase = folder / "context.json", folder / "passphrase"
    if saved.exists():
        return ExecutionContext.load_from_disk(read_passphrase(passphrase), saved)
    say("Creating keys: a Paillier key pair and an AES key, protected by a random passphrase")
    provider, model, dim, bits = MODEL
    return ExecutionContext.create(
        PassphraseKeyProvider(_make_passphrase(passphrase)),
        "paillier_lookup",
        embedding=Embedding(provider, model, dim, bits=bits),
        path=saved,
    )


def _make_passphrase(path: Path) -> str:
    passphrase = secrets.token_urlsafe(32)
    # An existing one is from an interrupted first run: nothing was encrypted with it.
    _write(path, f"{passphrase}\n", "the passphrase")
    return passphrase


def _write(path: Path, text: str, what: str) -> None:
    try:
        write_file(path, text.encode())
    except OSError as error:
        raise InaccessibleFile(f"{what} cannot be written to {path}: {error.strerror}") from None


async def _load_and_ask(
    server: Credentials, context: ExecutionContext, documents: Path, name: str, questions: Sequence[str], data: Path
) -> None:
    # Every setting, so that no variable overrides it.
    async with XTraceIntegration(
        server.org_id, server.api_key, server.admin_key, server.api_url, f"{server.api_url}/api"
    ) as xtrace:
        collection = await Collection.open(xtrace, context, name, filterable=FILTERABLE)
        await _load(collection, documents)
        for question in questions:
            await _answer(collection, question)
        await _show_stored(xtrace, context, collection.kb_id, data / "server" / "xtrace.db")


async def _load(collection: Collection, documents: Path) -> None:
    loading = Loading(collection, Wanted([documents], removes_vanished=True), confirm_removal=lambda files: None)
    started = time.perf_counter()
    try:
        summary = await loading.run()
    except BaseException:  # Ctrl-C too
        note(f"{loading.summary.chunks.stored} chunks are stored: run the same command again to continue")
        raise
    _report(summary, time.perf_counter() - started)
    if not (summary.files.found or summary.files.removed):
        raise InvalidDocument(f"{documents} contains no file of a supported format: nothing was loaded")


def _report(summary: Summary, seconds: float) -> None:
    files, chunks = summary.files, summary.chunks
    say(
        f"\n{files.found} documents: {files.new} new, {files.changed} changed, {files.known} known, {files.removed} "
        f"removed; {chunks.stored} chunks embedded, encrypted and stored in {seconds:.1f} s"
    )
    for one in [*summary.passed_over, *summary.notes]:
        note(f"{', '.join(one.names[:3])}{' and others' if one.count > 3 else ''}: {one.reason}")


async def _answer(collection: Collection, question: str) -> None:
    say(f"\nQ: {question}")
    with measured_stages() as stages:
        hits = await collection.search(question, ANSWERS)
    say(f"({stages_line(stages)})")
    print_hits(hits, question, scores=False, whole=False)


async def _show_stored(xtrace: XTraceIntegration, context: ExecutionContext, kb_id: str, database: Path) -> None:
    page = await xtrace.meta_search_paginated(kb_id, context.id, limit=1)
    for chunk in page.results:
        chunk_id = chunk["chunk_id"]
        stored = stored_chunk(database, kb_id, chunk_id)
        say(f"\nWhat the server's database contains for one of these passages (chunk {chunk_id} in {database}):")
        say(f"   content     {stored.content[:64]}…  ({len(stored.content)} characters, AES-256-GCM)")
        say(f"   vector      {stored.ciphertext[:32].hex()}…  ({len(stored.ciphertext)} bytes, Paillier)")
        say(f"   name        {stored.name}  (keyed hash)")
        say(f"   metadata    {', '.join(filter(None, stored.tags)) or 'none'}  (keyed hashes)")


def _write_settings(data: Path, name: str) -> None:
    """Writes the settings for further commands in the data folder, and allows them to start its server."""
    passphrase = read_passphrase(data / "client" / "passphrase")
    settings = {
        "XTRACE_LOCAL_SERVER": "server",
        "XTRACE_CONTEXT": "client/context.json",
        "XTRACE_PASSPHRASE": passphrase,
        "XTRACE_KB": name,
    }
    _write(data / DOTENV, "".join(f"{key}={value}\n" for key, value in settings.items()), "the settings")
    with chdir(data):  # permissions apply to a working folder
        allow_start(Setting("local_server", "server", Source(DOTENV, Path.cwd(), is_of_folder=True)))


def _say_how_to_go_on(data: Path, question: str) -> None:
    xtrace = Path(sys.argv[0]).resolve()
    command = "xtrace" if shutil.which("xtrace") == str(xtrace) else shlex.quote(str(xtrace))
    say(f"\nContinue in the folder {data}, whose {DOTENV} has the settings (cd {shlex.quote(str(data))}):")
    say(f"  {command} search {shlex.quote(question)}")
    say(f"  {command} xvec head")
    say(f"  {command} shell")
