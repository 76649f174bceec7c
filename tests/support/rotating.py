"""Rotates a context in a process of its own, for tests that kill it: `python rotating.py CONTEXT_FILE BATCH_SIZE`.

The service and the key come from the environment. Prints a line when it begins and one when it is done.
"""

import asyncio
import sys

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.upkeep.rotation import rotate
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


async def main(path: str, batch_size: int) -> None:
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=PassphraseKeyProvider("passphrase"), insecure_allow_weak_encryption=True
    )
    sys.stdout.write("begins\n")
    sys.stdout.flush()
    async with XTraceIntegration() as xtrace:
        summary = await rotate(context, xtrace, batch_size=batch_size)
    sys.stdout.write(f"moved {summary.total}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
