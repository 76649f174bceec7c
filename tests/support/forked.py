"""Processes that are forked from one that has imported the client and the server: they start in a tenth of a second.

What they run lies in modules of its own (`serving`, `loading`, …) that import nothing for tests: each process imports
its module itself, and pytest alone would take a second.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext
from typing import NamedTuple

from xtrace_sdk.integrations.xtrace import XTraceIntegration
from xtrace_server.credentials import Credentials

_IMPORTED = (
    "xtrace_server.workers",
    "xtrace_server.storage.sqlite.dialect",
    "aiosqlite",
    "uvloop",
    "xtrace_sdk.integrations.xtrace",
    "xtrace_sdk.x_vec.data_loaders.loader",
    "xtrace_sdk.x_vec.upkeep.rotation",
)


def forking() -> ForkServerContext:
    """The context that such processes, and what they share, are made with."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context


class Account(NamedTuple):
    """What such a process needs to use the service: credentials refuse to be copied into another process."""

    org_id: str
    api_key: str
    api_url: str

    @classmethod
    def of(cls, credentials: Credentials, url: str = "") -> "Account":
        """The account of an organisation, at another address if one is given."""
        return cls(credentials.org_id, credentials.api_key, url or credentials.api_url)

    def integration(self) -> XTraceIntegration:
        """An integration to use with `async with`."""
        return XTraceIntegration(self.org_id, self.api_key, api_url=self.api_url)
