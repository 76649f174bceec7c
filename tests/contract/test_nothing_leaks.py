"""What an observer of the network, a thief of the disk and the server's operator find of texts, private metadata,
vectors, queries, passphrases and keys over a run of the whole product: nothing.

The operator sees most: logs, metrics, the audit log, and the memory of the running server.
"""

import asyncio
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from support.process_memory import memory_of
from support.recording_proxy import contained, disguises, found, recording_proxy
from support.secret_marks import key_marks, text_marks, vector_marks
from support.terminal import COMMAND, Terminal
from xtrace_sdk import Collection, Range, Record
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_mem import Memory
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.inference.embedding import Embedding
from xtrace_sdk.x_vec.keys.recovery import RecoveryKey
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import CREDENTIALS_FILE, Credentials, read_credentials

PASSPHRASES = {
    "passphrase": "Zirkelquadratur-Passphrase",
    "passphrase after rewrapping": "Eierschalensollbruchstelle",
    "passphrase after rotation": "Donaudampfschifffahrtskapitän",
    "passphrase of the command": "Rindfleischetikettierung-2000",
}
TEXTS = {
    "text": "Quetzalcoatl owes the bank eleven million",
    "text beyond ASCII": "Xylophones ünd Äpfel are kept in the vault",
    "text that is replaced": "Rumpelstiltskin cannot spell his surname",
}
NEW_TEXT = {"text that replaces it": "Nobody remembers Schwarzwälderkirschtorte"}
QUESTION = {"question": "Who is in debt, Nebuchadnezzar?"}
PRIVATE = {"tag2": "Chimborazo the customer", "facets": ["Popocatépetl affair", "Kilimanjaro affair"]}
PRIVATE_VALUES = {
    "private tag": "Chimborazo the customer",
    "private facet": "Popocatépetl affair",
    "private facet asked for": "Kilimanjaro affair",
    "private tag that no chunk has": "Annapurna, whom nobody knows",
    "private tag after a patch": "Aconcaguagipfel since Tuesday",
}
RECORD_IDS = {"id of a record": "Schwippschwager-4711", "id that no record has": "Kaventsmann-0815"}
RECORD_TEXTS = {
    "text of a record": "Brontosaurus paid the ransom in gold",
    "text after an update": "Stegosaurus paid it",
}
RECORD_FIELDS = {"field": "Zahlungsmoral", "field inside": "Kreditwürdigkeit", "list": "Mitwisserschaft"}
RECORD_VALUES = {
    "value": "miserable beyond Popayán",
    "value inside": "Ratingagenturflüsterer",
    "element": "Kassiererin Ottilie Wunderlich",
    "value after an update": "Zahlungsunfähigkeit",
    "value that no record has": "Schuldnerverzeichnis",
    "number": "8675309.125",
    "namespace": "Buchhaltungsabteilung",
}
MEMORIES = {
    "user": "Ferdinand Wolkenstein",
    "agent": "Haushaltsassistentin",
    "session": "Donnerstagnachmittag",
    "fact": "Ferdinand moved to Villingen-Schwenningen",
    "fact that was superseded": "Ferdinand lives in Herzogenaurach",
    "question": "Where can Ferdinand be found nowadays, Moosbrugger?",
    "key": "Wohnortwechsel",
    "kind": "Lebensumstände",
    "tag": "Einwohnermeldeamt",
    "source": "Telefongespräch",
    "metadata field": "Vertrauenswürdigkeit",
    "metadata value": "uneingeschränkt",
}
VISIBLE = "a tag that everybody may see"
DIM = 256


@dataclass
class Evidence:
    """Everything that others than the client have seen after a run."""

    wire: bytes = b""
    disk: bytes = b""
    memory: bytes = b""
    log: bytes = b""
    metrics: bytes = b""
    audit: bytes = b""
    marks: dict[str, bytes] = field(default_factory=dict)
    """What must be nowhere in it."""


@contextmanager
def server(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The installed server as a child of this process, talkative, over `folder/data`; its log is `folder/log`."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("XTRACE_")}
    settings = {"XTRACE_LOG_LEVEL": "debug", "XTRACE_METRICS": "loopback"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [COMMAND, "serve", "--data", str(folder / "data"), "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=plain | settings,
        )
    try:
        deadline = time.monotonic() + 60
        while not (folder / "data" / CREDENTIALS_FILE).exists() or b"serving on" not in (folder / "log").read_bytes():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def use_everything(scheme: str, xtrace: XTraceIntegration, folder: Path) -> dict[str, bytes]:
    """Loads, searches, reads, changes, rewraps, rotates, saves and restores; the marks of all that is secret."""
    first, second, third, _ = (PassphraseKeyProvider(text, insecure_log2_n=4) for text in PASSPHRASES.values())
    embedding = Embedding("wordllama", "l2_supercat", DIM)
    recovery_keys = RecoveryKey.generate(), RecoveryKey.generate()
    old = ExecutionContext.create(
        first, scheme, DIM, path=folder / "old", private_metadata=list(PRIVATE), recovery_key=recovery_keys[0]
    )
    kb_id = (await xtrace.create_kb("kb")).id
    await old.save_to_remote(xtrace)

    collection = [{"chunk_content": text, "meta_data": {"tag1": VISIBLE, **PRIVATE}} for text in TEXTS.values()]
    loader = DataLoader(old, xtrace)
    await loader.load(collection, embedding, kb_id)
    await expect_texts(Retriever(old, xtrace), embedding, kb_id, TEXTS)

    old.rewrap(second).save_to_disk(folder / "old")
    await old.save_to_remote(xtrace)
    await xtrace.patch_chunks_by_meta(kb_id, old.id, {"tag1": VISIBLE}, {"tag3": "published"})
    patch = {"tag2": PRIVATE_VALUES["private tag after a patch"]}
    await loader.patch_chunks_by_meta(private_filter(), patch, kb_id)
    assert len(await Retriever(old, xtrace).meta_search(patch, kb_id)) == len(TEXTS)
    await replace_last_text(old, xtrace, embedding, kb_id)

    old.set_recovery_key(recovery_keys[1]).save_to_disk(folder / "old")
    await old.save_to_remote(xtrace)
    new = old.successor(third, path=folder / "new", recovery_key=recovery_keys[1])
    await rotate(new, xtrace, remove_old=True)
    new.save_to_disk(folder / "new")
    await new.save_to_remote(xtrace)
    restored = await ExecutionContext.load_from_remote(
        key_provider=third, context_id=new.id, integration=xtrace, insecure_allow_weak_encryption=True
    )
    kept = dict(list(TEXTS.items())[:2]) | NEW_TEXT
    await expect_texts(Retriever(restored, xtrace), embedding, kb_id, kept)
    await xtrace.delete_chunks([1], kb_id)

    texts = TEXTS | NEW_TEXT | QUESTION
    return {
        **text_marks(texts | PRIVATE_VALUES | PASSPHRASES),
        **{f"recovery key {i}": key.key() for i, key in enumerate(recovery_keys)},
        **{f"recovery words {i}": key.words().encode() for i, key in enumerate(recovery_keys)},
        **await vector_marks(texts.values(), embedding, old, new),
        **key_marks(
            old,
            new,
            ExecutionContext.load_from_disk(
                path=folder / "new", key_provider=third, insecure_allow_weak_encryption=True
            ),
        ),
    }


def private_filter() -> dict[str, Any]:
    """A filter that every chunk passes, by what it has and by what it has not."""
    absent, facet = PRIVATE_VALUES["private tag that no chunk has"], PRIVATE_VALUES["private facet asked for"]
    return {"tag1": VISIBLE, "tag2": {"$ne": absent}, "facets": {"$any": [absent, facet]}}


async def expect_texts(retriever: Retriever, embedding: Embedding, kb_id: str, texts: dict[str, str]) -> None:
    question = embedding.bin_embed(*QUESTION.values())
    ids = await retriever.nn_search_for_ids(question, len(texts), kb_id, meta_filter=private_filter())
    chunks = await retriever.retrieve_and_decrypt(ids, kb_id)
    assert sorted(chunk["chunk_content"] for chunk in chunks) == sorted(texts.values())


async def replace_last_text(
    context: ExecutionContext, xtrace: XTraceIntegration, embedding: Embedding, kb_id: str
) -> None:
    (text,) = NEW_TEXT.values()
    item = {"chunk_content": text, "meta_data": {"tag1": VISIBLE, **PRIVATE}}
    await DataLoader(context, xtrace).upsert_one(item, embedding.bin_embed(text), kb_id, chunk_id=len(TEXTS))


async def use_a_collection(
    scheme: str, xtrace: XTraceIntegration, embedding: Embedding, folder: Path
) -> dict[str, bytes]:
    """Every call of a collection; the marks of all that is secret in it."""
    provider = PassphraseKeyProvider(PASSPHRASES["passphrase"], insecure_log2_n=4)
    context = ExecutionContext.create(provider, scheme, DIM, path=folder / "records")
    field, inside, listed = RECORD_FIELDS.values()
    value, deep, element, changed, absent, number, namespace = RECORD_VALUES.values()
    record_id, unknown_id = RECORD_IDS.values()
    text, new_text = RECORD_TEXTS.values()
    records = await Collection.open(
        xtrace,
        context,
        "records",
        embedding=embedding,
        namespace=namespace,
        filterable={"*": True, f"{field} {inside}": Range(0, 1e7, 1)},
    )
    metadata = {field: value, f"{field} {inside}": float(number), listed: [element], "o": {inside: deep}}
    await records.upsert([Record(record_id, text, metadata), Record(unknown_id, vector=[])])
    await records.upsert([{"id": record_id}], on_conflict="skip")
    assert await records.delete([unknown_id]) == 1
    for where in (
        {field: value, listed: {"$contains": element}},
        {f"{field} {inside}": {"$gte": float(number), "$ne": None}, field: {"$nin": [absent, None]}},
        {f"o.{inside}": {"$begins_with": deep[:12]}, "$text": {"$contains": text[:12]}, "$id": record_id},
    ):
        (hit,) = await records.search(QUESTION["question"], 5, where=where, include_vectors=True)
        assert hit.record.metadata == metadata
        assert await records.count(where) == 1
    assert await records.values(listed) == [element]
    local = Collection(
        xtrace,
        context,
        records.kb_id,
        embedding=embedding,
        namespace=namespace,
        local_index="replica",
        local_folder=folder / "local",
    )
    (hit,) = await local.search(QUESTION["question"], 5, where=where, mode="local", hybrid=True)
    assert hit.record.metadata == metadata
    await records.update(record_id, metadata=metadata | {field: changed})
    await records.update(record_id, text=new_text)
    (record,) = [one async for one in records.iter({field: changed}, order_by=field)]
    assert (record.text, await records.get([unknown_id])) == (new_text, [])
    assert await records.delete(where={field: absent}) == 0
    secret = RECORD_IDS | RECORD_TEXTS | RECORD_FIELDS | RECORD_VALUES
    return {
        **text_marks({name: text for name, text in secret.items() if name != "number"}),
        "number": number.encode(),
        **await vector_marks(RECORD_TEXTS.values(), embedding, context),
        **{f"record's {name}": value for name, value in key_marks(context).items()},
    }


async def use_a_memory(scheme: str, xtrace: XTraceIntegration, embedding: Embedding, folder: Path) -> dict[str, bytes]:
    """Every call of a memory without a language model; the marks of all that is secret in it."""
    provider = PassphraseKeyProvider(PASSPHRASES["passphrase"], insecure_log2_n=4)
    context = ExecutionContext.create(provider, scheme, DIM, path=folder / "memories")
    m = MEMORIES
    collection = await Collection.open(xtrace, context, "memories", embedding=embedding)  # every field filterable
    memory = Memory(collection).scope(user=m["user"], agent=m["agent"], session=m["session"])
    more: dict[str, Any] = {"key": m["key"], "kind": m["kind"], "tags": [m["tag"]], "source": m["source"]}
    more["metadata"] = {m["metadata field"]: m["metadata value"]}
    await memory.remember(m["fact that was superseded"], **more)
    (change,) = await memory.remember(m["fact"], **more)
    assert change.op == "superseded"
    where = {f"metadata.{m['metadata field']}": m["metadata value"], "source": m["source"]}
    (found,) = await memory.recall(m["question"], where=where, kind=m["kind"], tags=[m["tag"]], min_similarity=-1)
    assert found.fact == change.fact
    assert len(await memory.history(m["key"])) == len(await memory.facts(where, superseded=True)) == 2
    assert await memory.forget(change.fact.id) == 2
    await memory.remember(m["fact"], **more)
    texts = [m["fact"], m["fact that was superseded"], m["question"]]
    return {
        **text_marks(MEMORIES),
        **await vector_marks(texts, embedding, context),
        **{f"memory's {name}": value for name, value in key_marks(context).items()},
    }


async def use_the_command(scheme: str, url: str, credentials: Credentials, folder: Path) -> dict[str, bytes]:
    """The same service through the command line; the marks of the keys that it made."""
    *_, passphrase = PASSPHRASES.values()
    environment = {
        "XTRACE_API_URL": url,
        "XTRACE_ORG_ID": credentials.org_id,
        "XTRACE_API_KEY": credentials.api_key,
        "XTRACE_ADMIN_KEY": credentials.admin_key,
        "XTRACE_PASSPHRASE": passphrase,
    }
    shell = Terminal(folder, environment)

    async def run(line: str) -> str:
        return (await asyncio.to_thread(shell, line)).text

    context_id = await run(f"context create mine.json --scheme {scheme} --dimensions 64")
    await run("context save mine.json")
    await run(f"context restore {context_id} copy.json")
    lines = (await run("kb list")).splitlines()[1:]
    assert sorted(line.split()[-1] for line in lines) == ["kb", "memories", "records"]
    await run("audit")
    return key_marks(
        ExecutionContext.load_from_disk(passphrase, folder / "mine.json", insecure_allow_weak_encryption=True)
    )


@pytest.fixture(scope="module", params=[pytest.param("paillier", marks=pytest.mark.full), "paillier_lookup", "lattice"])
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """What a run leaves behind, for each scheme."""
    return asyncio.run(_evidence(request.param, tmp_path_factory.mktemp("run")))


async def _evidence(scheme: str, folder: Path) -> Evidence:
    seen = Evidence()
    command_folder = folder / "command"
    command_folder.mkdir()
    with server(folder) as process:
        credentials = read_credentials(folder / "data" / CREDENTIALS_FILE)
        async with (
            recording_proxy(credentials.api_url) as recording,
            XTraceIntegration(
                credentials.org_id, credentials.api_key, api_url=recording.url, admin_key=credentials.admin_key
            ) as xtrace,
        ):
            seen.marks |= await use_everything(scheme, xtrace, folder)
            seen.marks |= await use_a_collection(scheme, xtrace, Embedding("wordllama", "l2_supercat", DIM), folder)
            seen.marks |= await use_a_memory(scheme, xtrace, Embedding("wordllama", "l2_supercat", DIM), folder)
            seen.marks |= {
                f"command's {name}": value
                for name, value in (await use_the_command(scheme, recording.url, credentials, command_folder)).items()
            }
            seen.audit = msgspec.json.encode(await xtrace.audit_log(1000))
        seen.wire = bytes(recording.data)
        seen.metrics = httpx2.get(f"{credentials.api_url}/metrics").content
        seen.memory = memory_of(process.pid)
        # With the write-ahead log and the temporary files, as a thief of a running machine has them.
        seen.disk = b"".join(path.read_bytes() for path in sorted((folder / "data").rglob("*")) if path.is_file())
    seen.log = (folder / "log").read_bytes()
    return seen


@pytest.mark.long
def test_nothing_secret_is_on_the_wire_on_the_disk_or_in_what_the_server_says(evidence: Evidence) -> None:
    assert b"content-encoding" not in evidence.wire.lower()  # compressed, it would hide what is looked for
    visible = {
        "wire": VISIBLE,
        "disk": VISIBLE,
        "log": "/v1/compute_hamming",
        "metrics": "xtrace_requests_total",
        "audit": "knowledge_base.create",
    }
    for name, text in visible.items():
        record = getattr(evidence, name)
        # The search would find what is there: what everybody may see is.
        assert found({name: text.encode()}, record)[:1] == [f"{name} (raw)"]
        assert found(evidence.marks, record) == []


@pytest.mark.long
def test_nothing_secret_is_in_the_memory_of_the_server(evidence: Evidence) -> None:
    assert "tag (raw)" in found({"tag": VISIBLE.encode()}, evidence.memory)
    assert found(evidence.marks, evidence.memory) == []


def test_looking_for_many_at_once_finds_what_looking_for_each_does() -> None:
    haystack = secrets.token_bytes(5 << 20) + bytes(4096) + b"\0\1" * 500
    ends = [haystack[:9], haystack[-9:], haystack[(1 << 22) - 5 : (1 << 22) + 6]]
    needles = [*ends, b"\0" * 64, b"\0" * 5000, b"\1\0" * 40, b"\2\0" * 40, b"ab", b"", haystack[77:79]]
    needles += [haystack[start : start + size] for start in range(1000, 1020) for size in range(1, 9)]
    needles += [haystack[start : start + 8] + b"!!" for start in range(1000, 1020)]
    assert contained(needles, haystack) == {needle for needle in needles if needle in haystack}


def test_a_mark_is_found_in_every_disguise() -> None:
    mark = "Ünmistakable\nmark".encode()
    for form, value in disguises(mark).items():
        assert f"it ({form})" in found({"it": mark}, bytes(range(256)) + value + bytes(range(256)))
        assert found({"it": mark}, bytes(range(256)) + value[:-1]) == []
