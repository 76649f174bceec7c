"""Seals stored chunks into blocks at the end of loads."""

import warnings
from collections import Counter
from typing import Final

from xtrace_core.secrecy import Secretive
from xtrace_sdk.errors import NotFound, PermissionDenied, QuotaExceeded, XTraceError
from xtrace_sdk.notices import NotSealed
from xtrace_sdk.service.integration import XTraceIntegration
from xtrace_sdk.x_vec.contexts.execution_context import ExecutionContext
from xtrace_sdk.x_vec.stored.sealing import FIRST_ROWS, seal_chunks

WORTHWHILE: Final = 1024
"""The chunks that are stored between two looks at what can be sealed, for calls that may store only a few."""


class SealAtEnd(Secretive):
    """Counts what a loader stores, and seals it."""

    __slots__ = ("_context", "_integration", "_is_possible", "_stored")

    def __init__(self, context: ExecutionContext, integration: XTraceIntegration) -> None:
        self._context = context
        self._integration = integration
        self._is_possible = context.homomorphic.blocks is not None
        self._stored: Counter[str] = Counter()

    async def seal(self, kb_id: str, stored: int, *, worthwhile: int = WORTHWHILE) -> None:
        """Seals if this many more chunks were stored and enough were since the last time.

        What is stored stays stored: if sealing fails, warns (`NotSealed`). Without the permission, and on a service
        without blocks, does nothing.
        """
        self._stored[kb_id] += stored
        if not self._is_possible or self._stored[kb_id] < worthwhile:
            return
        self._stored[kb_id] = 0
        try:
            await seal_chunks(self._context, self._integration, kb_id, first_rows=FIRST_ROWS)
        except XTraceError as error:
            if isinstance(error, (PermissionDenied, NotFound)) and not isinstance(error, QuotaExceeded):
                self._is_possible = False
                return
            warnings.warn(
                f"everything is stored, but not sealed into blocks, without which searches take more bytes: {error}; "
                "run `xtrace kb seal` later",
                NotSealed,
                stacklevel=3,
            )
