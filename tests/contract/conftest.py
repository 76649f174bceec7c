"""An integration with a running service, and a new knowledge base there."""

from collections.abc import AsyncIterator

import pytest

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.credentials import Credentials


@pytest.fixture
async def xtrace(credentials: Credentials) -> AsyncIterator[XTraceIntegration]:
    async with XTraceIntegration(
        credentials.org_id, credentials.api_key, credentials.admin_key, credentials.api_url
    ) as integration:
        yield integration


@pytest.fixture
async def kb_id(xtrace: XTraceIntegration) -> str:
    return (await xtrace.create_kb("kb")).id
