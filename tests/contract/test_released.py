"""What released versions have stored opens with this one: tests/vectors/released has one of each thing."""

import base64
import gzip
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tools import release
from tools.released_fixtures import BLOCK_KB, BLOCK_VECTORS, CONTENTS

from support import databases
from support.postgres import NEEDED
from support.service import LiveService, running_service
from xtrace_core.frames import FrameReader
from xtrace_sdk import Collection, ExecutionContext, KeyFileProvider, RecoveryKey
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.chunks.envelope import unpack
from xtrace_sdk.x_vec.contexts.manifest import Manifest
from xtrace_server.archive.reading import ArchiveReader
from xtrace_server.storage.archiving import checked, restore
from xtrace_server.storage.dialects import default_url, dialect_of
from xtrace_server.storage.migrating import newest_version

RELEASED = sorted((Path(__file__).parents[1] / "vectors" / "released").glob("*/"))


@pytest.fixture(params=RELEASED, ids=lambda folder: folder.name)
def released(request: pytest.FixtureRequest) -> Path:
    """The folder of one version."""
    folder: Path = request.param
    return folder


@pytest.fixture
def expected(released: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((released / "expected.json").read_text())
    return found


@contextmanager
def sqlite_server(released: Path, folder: Path) -> Iterator[LiveService]:
    """A server over the database that the version left."""
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(released / "credentials-sqlite.json", folder / "credentials.json")
    (folder / "xtrace.db").write_bytes(gzip.decompress((released / "sqlite.db.gz").read_bytes()))
    with running_service(folder) as service:
        yield service


async def records_are_there(service: LiveService, released: Path, expected: dict[str, Any], kind: str) -> None:
    """Reads and searches the knowledge base of each scheme."""
    credentials = json.loads((released / f"credentials-{kind}.json").read_text()) | {"api_url": service.url}
    async with XTraceIntegration(**credentials) as xtrace:
        for scheme, kb_id in expected[kind].items():
            context = ExecutionContext.load_from_disk(expected["passphrase"], released / f"context-{scheme}.json")
            remote = await ExecutionContext.load_from_remote(expected["passphrase"], context.id, xtrace)
            assert remote.id == context.id
            collection = await Collection.open(xtrace, context, kb_id)
            found = {record.id: (record.text, record.metadata) async for record in collection.iter()}
            assert found == {name: tuple(record) for name, record in expected["records"].items()}
            (hit,) = await collection.search("Which animal is napping?", k=1, where={"topic": {"$ne": "legal"}})
            assert hit.record.id == "cat"


def test_this_version_has_its_fixtures() -> None:
    assert ".".join(release.version().split(".")[:2]) in [folder.name for folder in RELEASED]


def test_contexts_open_with_each_of_their_keys(released: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    key_file = Path(shutil.copy(released / "key-file", tmp_path))
    key_file.chmod(0o600)
    for name, context_id in expected["contexts"].items():
        ways: list[dict[str, Any]] = [{"passphrase": expected["passphrase"]}]
        if name == "context-key-file.json":
            ways = [
                {"key_provider": KeyFileProvider(key_file)},
                {"recovery_key": RecoveryKey(expected["recovery_key"])},
            ]
        for way in ways:
            assert ExecutionContext.load_from_disk(path=released / name, **way).id == context_id


def test_contents_are_read(released: Path) -> None:
    stored = [base64.b64decode(one) for one in json.loads((released / "envelopes.json").read_text())]
    for packed, content in zip(stored, CONTENTS, strict=True):
        read = unpack(packed)
        assert (read.text, read.name, read.record) == (content.text, content.name, content.record)
        assert {k: v for k, v in (read.meta_data or {}).items() if v} == (content.meta_data or {})
        copies = [None if one is None else (one.dtype, one.tolist()) for one in (read.vector_copy, content.vector_copy)]
        assert copies[0] == copies[1]


def test_a_block_is_made_as_it_was(released: Path, expected: dict[str, Any]) -> None:
    context = ExecutionContext.load_from_disk(expected["passphrase"], released / "context-lattice.json")
    stored = {name: base64.b64decode(part) for name, part in json.loads((released / "block.json").read_text()).items()}
    blocks = context.homomorphic.blocks
    assert blocks is not None
    block = blocks.checked(stored["header"], stored["hints"], BLOCK_KB)
    assert blocks.matches(block, BLOCK_VECTORS)
    assert not blocks.matches(block, 1 - BLOCK_VECTORS)


def test_a_framed_answer_is_read(released: Path, expected: dict[str, Any]) -> None:
    reader = FrameReader()
    blocks = list(reader.feed((released / "search.frames").read_bytes()))
    reader.close()
    assert sum(map(len, blocks)) == len(expected["records"]) + 1  # and what the collection keeps about itself


async def test_a_database_in_sqlite_is_served(released: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    with sqlite_server(released, tmp_path / "data") as service:
        await records_are_there(service, released, expected, "sqlite")


def test_archives_are_sound_and_restored(released: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    for name in ("backup-sqlite", "backup-postgresql"):
        folder = tmp_path / name
        done = restore(dialect_of(default_url(folder)), folder, released / f"{name}.tar")
        assert done.rows == checked(released / f"{name}.tar").rows
        with closing(sqlite3.connect(folder / "xtrace.db")) as connection:
            assert connection.execute("SELECT count(*) FROM chunk").fetchone() == (4 * len(expected["sqlite"]),)


def test_a_manifest_is_read(released: Path, expected: dict[str, Any]) -> None:
    manifest = Manifest.read(released / "manifest.json")
    assert manifest.context_id == expected["contexts"]["context-paillier_lookup.json"]
    assert len(manifest) == len(expected["records"]) + 1  # and what the collection keeps about itself


@pytest.mark.full
def test_an_export_is_imported_or_says_why_not(released: Path, tmp_path: Path) -> None:
    with running_service(tmp_path):
        pass
    command = [sys.executable, "-m", "xtrace_cli", "import", str(released / "export.tar"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with (released / "export.tar").open("rb") as opened:
        if ArchiveReader(opened).manifest.schema != newest_version():
            assert "export it with this version of XTrace" in done.stderr
            return
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "xtrace.db")) as connection:
        assert connection.execute("SELECT count(*) FROM chunk").fetchone() == (4,)


@pytest.mark.full
@NEEDED
async def test_a_database_in_postgresql_is_served(released: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    databases.use(databases.POSTGRES)
    try:
        url = databases.postgres.url(tmp_path)
        shutil.copy(released / "credentials-postgresql.json", tmp_path / "credentials.json")
        restore(dialect_of(url), tmp_path, released / "backup-postgresql.tar")
        with running_service(tmp_path) as service:
            await records_are_there(service, released, expected, "postgresql")
    finally:
        databases.use(databases.SQLITE)
