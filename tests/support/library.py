"""A folder with a context, and a knowledge base of a few records as `xtrace load` stores them."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from support.terminal import Terminal
from xtrace_cli.documents.records import FILTERABLE
from xtrace_cli.workspace import MODEL
from xtrace_sdk import (
    Collection,
    Embedding,
    ExecutionContext,
    KeyFileProvider,
    PassphraseKeyProvider,
    Record,
    XTraceIntegration,
)
from xtrace_server.credentials import Credentials, write_credentials

STEERING = "A title \x1b]0;changed\x07 and \x1b[31mred\x1b[0m letters, \u202ereversed."
RECORDS = [
    Record(
        "notes/tax.md#0",
        "The March invoice is still unpaid. It was sent by the printers on the third of March.",
        {"source": "notes/tax.md", "format": "md", "position": 0, "lines": "1-4", "heading": "Open > Invoices"},
    ),
    Record(
        "notes/lease.pdf#0",
        "The tenant gives notice three months before the end of the quarter.",
        {"source": "notes/lease.pdf", "format": "pdf", "position": 0, "page": 3, "heading": "Termination"},
    ),
    Record(
        "notes/cat.txt#0",
        "The cat is asleep on the warm radiator.",
        {"source": "notes/cat.txt", "format": "txt", "position": 0, "lines": "1", "tag1": "home"},
    ),
    Record("steering", STEERING, {"tag1": "odd"}),
    Record("bare", None, {"topic": "none"}),
]


KEY_FILE, LOCKED = "keys/key", "keys/locked.json"
"""The key of the folder's context, and the same context under a passphrase."""


def make_keys(folder: Path, passphrase: str) -> None:
    """Makes a context with the model that `xtrace init` takes, in both files."""
    provider, name, dim, bits = MODEL
    (folder / "keys").mkdir()
    context = ExecutionContext.create(
        KeyFileProvider.create(folder / KEY_FILE),
        "paillier_lookup",
        embedding=Embedding(provider, name, dim, bits=bits),
        path=folder / "keys" / "context.json",
    )
    context.rewrap(PassphraseKeyProvider(passphrase, insecure_log2_n=14)).save_to_disk(folder / LOCKED)


def furnish(folder: Path, credentials: Credentials, keys: Path, records: list[Any]) -> str:
    """Puts keys and credentials into the folder, and the records into `documents`; returns its id."""
    write_credentials(folder / "xtrace-data" / "credentials.json", credentials)
    shutil.copytree(keys / "keys", folder / "keys")

    async def store() -> str:
        opened = ExecutionContext.load_from_disk(
            path=folder / "keys" / "context.json", key_provider=KeyFileProvider(folder / KEY_FILE)
        )
        async with XTraceIntegration(
            credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
        ) as xtrace:
            collection = await Collection.open(xtrace, opened, "documents", filterable=FILTERABLE)
            await collection.upsert(records)
            return collection.kb_id

    return asyncio.run(store())


def shell_in(folder: Path) -> Terminal:
    """A shell in such a folder that has the key."""
    return Terminal(folder, {"XTRACE_KEY_FILE": KEY_FILE, "HOME": str(folder / "home")})
