"""What a process does that rotates a context, until it is killed."""

import asyncio

from support.forked import Account
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


def rotate_to(path: str, account: Account, batch_size: int) -> None:
    """Moves what is stored under the predecessor to the context of the file."""
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=PassphraseKeyProvider("passphrase"), insecure_allow_weak_encryption=True
    )

    async def run() -> None:
        async with account.integration() as xtrace:
            await rotate(context, xtrace, batch_size=batch_size)

    asyncio.run(run())
