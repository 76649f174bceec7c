"""Creates or loads a context in a process of its own, when told to: `python creating.py path FILE` or `… name NAME`.

The service and the key come from the environment. Prints a line when it is ready, waits for one, and prints the id.
"""

import asyncio
import sys

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext


async def main(how: str, where: str) -> None:
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    async with XTraceIntegration() as xtrace:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        context = await ExecutionContext.create_or_load(
            provider,
            "paillier_lookup",
            24,
            256,
            path=where if how == "path" else None,
            name=where if how == "name" else None,
            integration=xtrace if how == "name" else None,
            insecure_allow_weak_parameters=True,
        )
    sys.stdout.write(f"{context.id}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
