"""What a process does that loads chunks, perhaps at the same time as others."""

import asyncio
from multiprocessing.synchronize import Barrier

from support.forked import Account
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def load(
    account: Account, path: str, kb_id: str, numbers: range, barrier: Barrier | None = None, batch_size: int = 1000
) -> None:
    """Loads the texts of these numbers under the context of the file, when all are at the barrier."""
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=PassphraseKeyProvider("passphrase"), insecure_allow_weak_encryption=True
    )
    chunks = [{"chunk_content": f"text {i}"} for i in numbers]

    async def run() -> None:
        async with account.integration() as xtrace:
            loader = DataLoader(context, xtrace)
            if barrier is not None:
                barrier.wait(60)
            await loader.load(chunks, [[0] * context.embed_len()] * len(chunks), kb_id, batch_size)

    asyncio.run(run())
