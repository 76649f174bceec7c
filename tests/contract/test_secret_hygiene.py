"""Secrets are nowhere but where they belong: not in exceptions or logs (tests/unit/test_secrecy.py: not in objects)."""

import gc
import json
import logging
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from support.recording_proxy import found
from support.schemes import SCHEMES, key_len
from support.secret_marks import key_marks
from xtrace_sdk.errors import XTraceError
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.keys.secrecy import Secretive
from xtrace_sdk.x_vec.retrievers.retriever import Retriever
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

PASSPHRASE = "Zirkelquadratur-Passphrase"
OTHER_PASSPHRASE = "Eierschalensollbruchstelle"
TEXT = "Quetzalcoatl owes the bank eleven million"
DIM = 64


def cheap(passphrase: str) -> PassphraseKeyProvider:
    return PassphraseKeyProvider(passphrase, insecure_log2_n=4)


def new_context(scheme: str, path: Path | None = None) -> ExecutionContext:
    return ExecutionContext.create(
        cheap(PASSPHRASE), scheme, DIM, key_len(scheme), path=path, insecure_allow_weak_parameters=True
    )


def secrets_of(*contexts: ExecutionContext) -> dict[str, bytes]:
    """Every secret of the contexts as bytes to look for, and the texts that nobody else may read."""
    passphrases = {"passphrase": PASSPHRASE.encode(), "other passphrase": OTHER_PASSPHRASE.encode()}
    return passphrases | {"text": TEXT.encode()} | key_marks(*contexts)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_no_log_and_no_exception_holds_a_secret(
    scheme: str, xtrace: XTraceIntegration, credentials: Credentials, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    kb_id = (await xtrace.create_kb("kb")).id
    old = new_context(scheme, tmp_path / "context")
    loader, retriever = DataLoader(old, xtrace), Retriever(old, xtrace)
    index, db = await loader.load_data_from_memory([{"chunk_content": TEXT}] * 3, [[1] * DIM] * 3)
    await loader.dump_db(db, index, kb_id)
    await retriever.retrieve_and_decrypt(await retriever.nn_search_for_ids([1] * DIM, 3, kb_id), kb_id)
    await old.save_to_remote(xtrace)
    new = old.successor(cheap(OTHER_PASSPHRASE), key_len=key_len(scheme), insecure_allow_weak_parameters=True)
    new.save_to_disk(tmp_path / "new")

    document = json.loads((tmp_path / "context").read_text())
    for name, change in {
        "damaged": {"sk": document["sk"][:-8] + "AAAAAAA="},
        "foreign": {"id": "f" * 64},
        "cut": {"wrapped_key": ""},
        "kind": {"key_provider": "aws_kms"},
    }.items():
        (tmp_path / name).write_text(json.dumps(document | change))
    await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": 2, "chunk_content": db[0]["chunk_content"]}])
    await xtrace.patch_chunks(kb_id, old.id, [{"chunk_id": 3, "index": index[0].ciphertexts()}])

    async def load(name: str, passphrase: str = PASSPHRASE) -> None:
        ExecutionContext.load_from_disk(passphrase, tmp_path / name, insecure_allow_weak_encryption=True)

    failing: list[Callable[[], Awaitable[Any]]] = [
        lambda: load("context", OTHER_PASSPHRASE),
        lambda: load("new"),
        *[lambda name=name: load(name) for name in ("damaged", "foreign", "cut", "kind", "missing")],
        lambda: ExecutionContext.load_from_remote(
            OTHER_PASSPHRASE, old.id, xtrace, insecure_allow_weak_encryption=True
        ),
        lambda: retriever.nn_search_for_ids([1] * DIM, 3, kb_id),
        lambda: retriever.nn_search_for_ids([2] * DIM, 3, kb_id),
        lambda: retriever.retrieve_and_decrypt([2], kb_id),
        lambda: rotate(new, xtrace),
        lambda: loader.load_data_from_memory([{"chunk_content": TEXT, "x": TEXT}], [[1] * DIM]),
        lambda: loader.load_data_from_memory([{"chunk_content": TEXT + "\udfff"}], [[1] * DIM]),
        lambda: loader.load_data_from_memory([{"chunk_content": TEXT, "meta_data": {"t": TEXT}}], [[1] * DIM]),
    ]
    shown = b""
    for call in failing:
        with pytest.raises(XTraceError) as caught:
            await call()
        error: BaseException | None = caught.value
        while error is not None:
            shown += "".join(map(repr, (*error.args, vars(error)))).encode("utf-8", "backslashreplace")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        shown += "".join(traceback.format_exception(caught.value)).encode("utf-8", "backslashreplace")
    logged = "\n".join([f"{record.getMessage()} {record.__dict__}" for record in caplog.records]).encode()
    assert b"/v1/chunk" in logged  # the logs are there to be looked at
    # The source lines of this file stand in the tracebacks; they name the constants, not their values.
    marks = secrets_of(old, new)
    assert found(marks, shown) == []
    assert found(marks, logged) == []
    for secret in (credentials.api_key, credentials.admin_key):
        assert found({"key": secret.encode()}, shown + logged) == []


def test_the_content_key_is_held_by_its_cipher_alone() -> None:
    context = new_context("paillier_lookup")
    holders = [type(thing) for thing in gc.get_referrers(context.aes.secret())]
    assert [kind for kind in holders if issubclass(kind, Secretive)] == [type(context.aes)]
    assert not [kind for kind in holders if kind in (dict, list, tuple, set)]
