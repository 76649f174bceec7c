"""`ExecutionContext.create_or_load`: of many that create at once, one does, and all get that one."""

from pathlib import Path

import pytest

from support.creating import create_or_load
from support.forked import Account, forking
from xtrace_sdk.errors import ContextDiffers, InvalidArgument, WrongKey
from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

PROVIDER = PassphraseKeyProvider("passphrase", insecure_log2_n=1)


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
@pytest.mark.parametrize("how", ["path", "name"])
def test_six_processes_get_one_context(how: str, tmp_path: Path, credentials: Credentials) -> None:
    where = str(tmp_path / "new" / "context") if how == "path" else "application"
    barrier, made = forking().Barrier(6), forking().SimpleQueue()
    place = (where, None) if how == "path" else (None, where)
    processes = [
        forking().Process(target=create_or_load, args=(barrier, made, Account.of(credentials), *place))
        for _ in range(6)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    ids = {made.get() for _ in processes}
    assert len(ids) == 1
    if how == "path":
        assert [file.name for file in (tmp_path / "new").iterdir()] == ["context"]
        assert ExecutionContext.load_from_disk(path=where, key_provider=PROVIDER).id == ids.pop()


@pytest.mark.filterwarnings("ignore::xtrace_sdk.x_vec.contexts.weakness.WeakKeyWarning")
async def test_what_is_there_is_loaded_and_nothing_else_is_stored(xtrace: XTraceIntegration, tmp_path: Path) -> None:
    async def call(provider: PassphraseKeyProvider = PROVIDER) -> ExecutionContext:
        return await ExecutionContext.create_or_load(
            provider,
            "paillier_lookup",
            24,
            256,
            name="app",
            integration=xtrace,
            insecure_allow_weak_parameters=True,
        )

    first = await call()
    assert first.is_kept
    assert (await call()).id == first.id
    assert await xtrace.list_exec_contexts(restorable=True) == [first.id]
    with pytest.raises(WrongKey):
        await call(PassphraseKeyProvider("another", insecure_log2_n=1))
    other = ExecutionContext.create(PROVIDER, "paillier_lookup", 24, 256, insecure_allow_weak_parameters=True)
    assert await xtrace.store_exec_context(other.public_data(), other.id, name="app") == first.id
    assert await xtrace.list_exec_contexts() == [first.id]
    await xtrace.store_exec_context(other.public_data(), other.id)
    with pytest.raises(ContextDiffers, match="only a new context can get a name"):
        await xtrace.store_exec_context(other.public_data(), other.id, name="free")
    await xtrace.delete_exec_context(first.id)
    assert await xtrace.find_exec_context("app") is None


async def test_one_place_is_named(xtrace: XTraceIntegration) -> None:
    with pytest.raises(InvalidArgument, match="either path, or name and integration"):
        await ExecutionContext.create_or_load(PROVIDER, "paillier_lookup", 24)
    with pytest.raises(InvalidArgument, match="name is not valid"):
        await xtrace.store_exec_context({"type": "t", "pk": "{}", "config": "{}"}, "context", name="a/b")
