"""Writes tests/vectors/released/VERSION: one of each thing that this version stores, for later versions to open.

    .venv/bin/python -m tools.released_fixtures

It starts servers over SQLite and over PostgreSQL, stores the same records in both, and keeps what they wrote. The
folder of a released version is never written again: a later version gets a folder of its own.
"""

import asyncio
import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np

from tools.release import ROOT, version
from tools.releasing.installing import running_server
from xtrace_core.frames import MEDIA_TYPE
from xtrace_core.wire import API_KEY_HEADER
from xtrace_sdk import (
    Collection,
    Embedding,
    ExecutionContext,
    KeyFileProvider,
    PassphraseKeyProvider,
    Record,
    RecoveryKey,
    XTraceIntegration,
)
from xtrace_sdk.x_vec.chunks.envelope import Content, RecordPart, pack

sys.path.insert(0, str(ROOT / "tests"))
from support.postgres import Postgres

PASSPHRASE: Final = "the passphrase of the fixtures"  # noqa: S105 - it protects nothing
RECORDS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "invoice": ("The March invoice is still unpaid.", {"topic": "finance", "amount": 120.5}),
    "cat": ("The cat is asleep on the warm radiator.", {"topic": "home"}),
    "merger": ("Our lawyers advise against the merger.", {"topic": "legal", "tags": ["a", "é"]}),
}
SCHEMES: Final = ("paillier_lookup", "paillier", "lattice")
CONTENTS: Final = (
    Content("A text alone."),
    Content("é", {"tag1": "private", "facets": ["a"]}, np.array([1, -128, 127], np.int8), "a name"),
    Content("A record.", None, np.array([0.5, -1.0], np.float32), None, RecordPart("id", "ns", '{"a":1}', bytes(16))),
)
BLOCK_VECTORS: Final = np.arange(3)[:, None] >> (np.arange(512) % 2) & 1
"""The bits of the vectors of a block."""
BLOCK_KB: Final = "the knowledge base of the block"


async def main(target: Path) -> None:
    """Writes into the folder, which is empty."""
    expected: dict[str, Any] = {"version": version(), "passphrase": PASSPHRASE, "records": RECORDS, "contexts": {}}
    contexts = _contexts(target, expected)
    envelopes = [base64.b64encode(pack(content)).decode() for content in CONTENTS]
    _write(target / "envelopes.json", envelopes)
    _block(target, contexts["lattice"])
    postgres = Postgres()
    postgres.start()
    with tempfile.TemporaryDirectory() as name:
        for kind in ("sqlite", "postgresql"):
            folder = Path(name) / kind
            url = {} if kind == "sqlite" else {"XTRACE_DATABASE_URL": postgres.url(folder)}
            await _store(target, folder, kind, url, contexts, expected)
    _write(target / "expected.json", expected)


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _contexts(target: Path, expected: dict[str, Any]) -> dict[str, ExecutionContext]:
    embedding = Embedding("wordllama", "l2_supercat", 256, bits=512)
    contexts = {}
    words = RecoveryKey.generate()
    KeyFileProvider.create(target / "key-file")
    for scheme in SCHEMES:
        path = target / f"context-{scheme}.json"
        made = ExecutionContext.create(PassphraseKeyProvider(PASSPHRASE), scheme, embedding=embedding, path=path)
        contexts[scheme] = made
        expected["contexts"][path.name] = made.id
    path = target / "context-key-file.json"
    made = ExecutionContext.create(
        KeyFileProvider(target / "key-file"), "paillier_lookup", 64, recovery_key=words, path=path
    )
    expected["contexts"][path.name] = made.id
    expected["recovery_key"] = words.words()
    return contexts


def _block(target: Path, context: ExecutionContext) -> None:
    """A block without its body, which its key, its nonce and the vectors decide."""
    blocks = context.homomorphic.blocks
    assert blocks is not None
    sealed = blocks.seal(BLOCK_VECTORS, BLOCK_KB)
    parts = {"header": sealed.header, "hints": sealed.hints}
    _write(target / "block.json", {name: base64.b64encode(part).decode() for name, part in parts.items()})


async def _store(
    target: Path,
    folder: Path,
    kind: str,
    url: Mapping[str, str],
    contexts: Mapping[str, ExecutionContext],
    expected: dict[str, Any],
) -> None:
    data = folder / "xtrace-data"
    with running_server(Path(sys.executable), folder, url, keep=True):
        credentials = json.loads((data / "credentials.json").read_text())
        async with XTraceIntegration(**credentials) as xtrace:
            for scheme, context in contexts.items():
                opened = await Collection.open(xtrace, context, scheme)
                await opened.upsert([Record(name, text, meta) for name, (text, meta) in RECORDS.items()])
                await context.save_to_remote(xtrace)
                expected.setdefault(kind, {})[scheme] = opened.kb_id
        shutil.copy(data / "credentials.json", target / f"credentials-{kind}.json")
        if kind == "sqlite":
            _frames(target, credentials, expected)
            _xtrace(folder, url, "export", expected[kind]["paillier_lookup"], target / "export.tar")
            keys = {"XTRACE_API_KEY": credentials["api_key"], "XTRACE_API_URL": credentials["api_url"]}
            keys["XTRACE_ORG_ID"] = credentials["org_id"]
            context_file, manifest = target / "context-paillier_lookup.json", target / "manifest.json"
            _xtrace(folder, keys, "kb", "manifest", expected[kind]["paillier_lookup"], context_file, manifest)
        _xtrace(folder, url, "backup", target / f"backup-{kind}.tar")
    if kind == "sqlite":
        with closing(gzip.GzipFile(target / "sqlite.db.gz", "wb", mtime=0)) as packed:
            packed.write((data / "xtrace.db").read_bytes())


def _frames(target: Path, credentials: Mapping[str, str], expected: dict[str, Any]) -> None:
    """A framed answer: the query 1 gives the stored rows themselves."""
    one = base64.b64encode(b"\x01").decode()
    body = {"kb_id": expected["sqlite"]["paillier_lookup"], "query": [one]}
    body["context_id"] = expected["contexts"]["context-paillier_lookup.json"]
    address = f"{credentials['api_url']}/v1/compute_hamming/{credentials['org_id']}"
    headers = {API_KEY_HEADER: credentials["api_key"], "accept": MEDIA_TYPE}
    answer = httpx2.post(address, json=body, headers=headers, trust_env=False)
    answer.raise_for_status()
    (target / "search.frames").write_bytes(answer.content)


def _xtrace(folder: Path, variables: Mapping[str, str], *arguments: str | Path) -> None:
    command = [sys.executable, "-m", "xtrace_cli", *(str(argument) for argument in arguments)]
    subprocess.run(command, cwd=folder, env={**os.environ, **variables}, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    released = ROOT / "tests" / "vectors" / "released" / ".".join(version().split(".")[:2])
    released.mkdir(parents=True)  # fails for a version that is released
    asyncio.run(main(released))
