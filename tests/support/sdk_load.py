"""Programs that write and search through the SDK all the time, whatever happens to servers and databases meanwhile.

An error that the SDK's retries do not absorb ends them, and the test.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from xtrace_sdk.sync import DataLoader, Retriever, XTraceIntegration
from xtrace_sdk.x_vec.crypto.key_provider import PassphraseKeyProvider
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

DIM: Final = 24
_MANY: Final = 100_000


@dataclass
class SdkLoad:
    """One writer and one searcher. What was acknowledged is `stored`, what the last search found is `seen`."""

    xtrace: XTraceIntegration
    context: ExecutionContext
    kb_id: str
    ended: threading.Event = field(default_factory=threading.Event)
    stored: int = 0
    seen: int = 0
    searches: int = 0
    _vectors: list[list[int]] = field(
        default_factory=lambda: np.random.default_rng(1).integers(0, 2, (20, DIM)).tolist()
    )

    def write(self) -> None:
        """Stores twenty chunks at a time."""
        loader = DataLoader(self.context, self.xtrace)
        while not self.ended.is_set():
            chunks = [{"chunk_content": f"text {self.stored + i}"} for i in range(len(self._vectors))]
            self.stored += loader.load(chunks, self._vectors, self.kb_id).stored

    def search(self) -> None:
        """Searches, and finds never less than before."""
        retriever = Retriever(self.context, self.xtrace)
        while not self.ended.is_set():
            if self.seen or self.xtrace.get_kb(self.kb_id).number_of_vectors:
                found = len(retriever.nn_search_for_ids(self._vectors[0], _MANY, self.kb_id))
                assert found >= self.seen, "chunks that were found are gone"
                self.seen = found
                self.searches += 1

    def wait_for_more(self) -> None:
        """Waits until both have done something that they began after this was called."""
        stored, searches = self.stored + 2 * len(self._vectors), self.searches + 2
        while (self.stored < stored or self.searches < searches) and not self.ended.wait(0.02):
            pass

    def check(self) -> None:
        """What was acknowledged is there, once, and nothing else."""
        retriever = Retriever(self.context, self.xtrace)
        ids = retriever.nn_search_for_ids(self._vectors[0], _MANY, self.kb_id)
        texts = [one["chunk_content"] for one in retriever.retrieve_and_decrypt(ids, self.kb_id)]
        assert sorted(texts) == sorted(f"text {i}" for i in range(self.stored))


@contextmanager
def sdk_load(credentials: Credentials) -> Iterator[SdkLoad]:
    """Runs the two until the block ends; then raises what they raised, and checks what is stored."""
    provider = PassphraseKeyProvider("passphrase", insecure_log2_n=1)
    context = ExecutionContext.create(provider, "paillier_lookup", DIM, 256, insecure_allow_weak_parameters=True)
    with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        load = SdkLoad(xtrace, context, xtrace.create_kb("kb").id)
        with ThreadPoolExecutor(2) as pool:
            running = [pool.submit(_until_it_fails, load, act) for act in (load.write, load.search)]
            try:
                yield load
            finally:
                load.ended.set()
            for one in running:
                one.result()
        load.check()


def _until_it_fails(load: SdkLoad, act: Callable[[], None]) -> None:
    try:
        act()
    finally:
        load.ended.set()
