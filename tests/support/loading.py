"""Loads chunks in a process of its own, when it is told to: `python loading.py CONTEXT_FILE KB_ID FIRST LAST`.

The service and the key come from the environment. Prints a line when it is ready, waits for a line, and loads the texts
of these numbers.
"""

import asyncio
import sys

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


async def main(path: str, kb_id: str, first: int, last: int) -> None:
    context = ExecutionContext.load_from_disk(
        path=path, key_provider=PassphraseKeyProvider("passphrase"), insecure_allow_weak_encryption=True
    )
    chunks = [{"chunk_content": f"text {i}"} for i in range(first, last + 1)]
    async with XTraceIntegration() as xtrace:
        loader = DataLoader(context, xtrace)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        await loader.load(chunks, [[0] * context.embed_len()] * len(chunks), kb_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
