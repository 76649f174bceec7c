"""What a process does that creates or loads a context at the same time as others."""

import asyncio
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier

from support.forked import Account
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def create_or_load(
    barrier: Barrier, ids: "SimpleQueue[str]", account: Account, path: str | None, name: str | None
) -> None:
    """Gets the context of the file, or of the name, when all are at the barrier, and gives its id."""
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)

    async def run() -> None:
        async with account.integration() as xtrace:
            barrier.wait(60)
            context = await ExecutionContext.create_or_load(
                provider,
                "paillier_lookup",
                24,
                256,
                path=path,
                name=name,
                integration=xtrace if name else None,
                insecure_allow_weak_parameters=True,
            )
        ids.put(context.id)

    asyncio.run(run())
