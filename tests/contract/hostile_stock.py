"""What the tests of the hostile server search: two knowledge bases under one context, and another organisation's."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.test_rotation import new_context
from support.hostile_server import Hostile, hostile_server
from support.service import LiveService
from xtrace_sdk.integrations.xtrace import Retries, XTraceIntegration
from xtrace_sdk.x_vec.data_loaders.loader import DataLoader
from xtrace_sdk.x_vec.utils.execution_context import ExecutionContext
from xtrace_server.credentials import Credentials

COUNT = 12
DIM = 16
VECTORS: NDArray[np.uint8] = np.random.default_rng(12).integers(0, 2, (COUNT, DIM), dtype=np.uint8)
QUERY = VECTORS[4]


@dataclass(frozen=True)
class Stock:
    """What is stored; tests leave it as it is."""

    credentials: Credentials
    foreign: Credentials
    """Another organisation, with as many chunks under the same context and the same ids."""
    context: ExecutionContext
    kb_id: str
    other_kb_id: str
    """Other texts with the same vectors, under the same context."""
    other_context: ExecutionContext
    """Chunks under it are in the first knowledge base as well."""
    foreign_kb_id: str

    @property
    def n(self) -> int:
        return int(self.context.homomorphic.public_key()["n"])

    @asynccontextmanager
    async def client(self, url: str, **settings: Any) -> AsyncIterator[XTraceIntegration]:
        """A client of the first organisation that is not patient."""
        async with XTraceIntegration(
            self.credentials.org_id,
            self.credentials.api_key,
            self.credentials.admin_key,
            url,
            **{"retries": Retries(attempts=1), "timeout_s": 20, **settings},
        ) as integration:
            yield integration

    @asynccontextmanager
    async def lied_to(self, frames_allowed: bool = True) -> AsyncIterator[tuple[XTraceIntegration, Hostile]]:
        """A client of a hostile server in front of the real one, and that server."""
        async with (
            hostile_server(self.credentials.api_url, frames_allowed) as hostile,
            self.client(hostile.url) as integration,
        ):
            yield integration, hostile


def chunks(label: str) -> list[dict[str, Any]]:
    """Texts with metadata; a tag of every chunk begins with its text's number."""
    return [{"chunk_content": f"{label} {i}", "meta_data": {"tag1": f"t{i % 2}"}} for i in range(COUNT)]


def new_stock(service: LiveService) -> Stock:
    """Stores it all."""
    return asyncio.run(_new_stock(service))


async def _new_stock(service: LiveService) -> Stock:
    credentials, foreign = service.new_organisation("own"), service.new_organisation("foreign")
    context, other_context = new_context(), new_context()
    kb_id = await _load(credentials, context, None, "text")
    other_kb_id = await _load(credentials, context, None, "other")
    await _load(credentials, other_context, kb_id, "strange")
    foreign_kb_id = await _load(foreign, new_context(), None, "foreign")
    return Stock(credentials, foreign, context, kb_id, other_kb_id, other_context, foreign_kb_id)


async def _load(credentials: Credentials, context: ExecutionContext, kb_id: str | None, label: str) -> str:
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as xtrace:
        kb_id = kb_id or (await xtrace.create_kb("kb")).id
        loader = DataLoader(context, xtrace)
        index, db = await loader.load_data_from_memory(chunks(label), list(VECTORS))
        await loader.dump_db(db, index, kb_id)
        return kb_id
